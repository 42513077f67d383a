"""The `test` package of an interpreter that was shipped without one, or with a part of it.

Debian puts CPython's own tests in a package apart, and slim container images delete them. With this package in front of the
standard library's, tests come from the directory that run.py was given, and what it has not from the interpreter.
"""

import os
from pathlib import Path

__path__ = [
    str(directory)
    for directory in (Path(os.environ["CONFORMANCE_SUITE"]), Path(os.__file__).parent / "test")
    if directory.is_dir()
]
