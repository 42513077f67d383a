"""The `test` package of an interpreter that was shipped without one, or with a part of it.

Debian puts CPython's own tests in a package apart, and slim container images delete them. With this package in front of the
standard library's, what the interpreter has is used first, and the rest comes from the directory that run.py was given.
"""

import os
from pathlib import Path

__path__ = [
    str(directory)
    for directory in (Path(os.__file__).parent / "test", Path(os.environ["CONFORMANCE_SUITE"]))
    if directory.is_dir()
]
