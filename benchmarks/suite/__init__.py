"""The benchmark suite: what is measured, how, and how it is told. benchmarks/run.py is the command."""
