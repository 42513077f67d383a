"""python -m corolla [-m MODULE | -c CODE | SCRIPT] ARGUMENTS...

Runs a program with corolla.install() done before its first line.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import io
import os
import runpy
import sys
import zipfile
from types import CodeType, ModuleType
from typing import Any

from . import __version__, install

USAGE = """\
usage: python -m corolla -m MODULE ARGUMENTS...
       python -m corolla -c CODE ARGUMENTS...
       python -m corolla SCRIPT ARGUMENTS...

Runs a Python program with corolla in asyncio's place: a module, code, a script, or a directory or zip file with a
__main__.py. -h shows this, --version the version."""


def main(argv: list[str]) -> None:
    if not argv:
        print(USAGE, file=sys.stderr)
        sys.exit(2)
    first, rest = argv[0], argv[1:]
    if first in ("-h", "--help"):
        print(USAGE)
    elif first == "--version":
        print(f"corolla {__version__}")
    elif first[:2] in ("-m", "-c") and (value := [first[2:]] if first[2:] else rest[:1]):
        arguments = rest if first[2:] else rest[1:]
        run_module(value[0], arguments) if first[1] == "m" else run_code(value[0], arguments)
    elif first.startswith("-"):
        print(f"corolla: {first}: unknown, or its value is missing\n{USAGE}", file=sys.stderr)
        sys.exit(2)
    else:
        run_script(first, rest)


def run_script(path: str, arguments: list[str]) -> None:
    sys.argv[:] = [path, *arguments]
    if _is_container(path):
        install()
        runpy.run_path(path, run_name="__main__")  # puts it in front of sys.path
        return
    _set_first_path(os.path.dirname(os.path.realpath(path)))
    path = os.path.abspath(path)
    try:
        with io.open_code(path) as file:
            source = file.read()
    except OSError as error:
        print(f"corolla: can't open {path!r}: {error.strerror}", file=sys.stderr)
        sys.exit(2)
    code = compile(source, path, "exec", dont_inherit=True)
    loader = importlib.machinery.SourceFileLoader("__main__", path)
    _run(code, __file__=path, __cached__=None, __loader__=loader)


def run_code(source: str, arguments: list[str]) -> None:
    sys.argv[:] = ["-c", *arguments]
    _set_first_path("")
    _run(compile(source, "<string>", "exec", dont_inherit=True), __loader__=importlib.machinery.BuiltinImporter)


def run_module(name: str, arguments: list[str]) -> None:
    """As `python -m`: a package's __main__ for a package."""
    sys.argv[:] = ["-m", *arguments]  # what it is while the packages around the module are imported
    install()
    try:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.submodule_search_locations is not None:
            spec = importlib.util.find_spec(f"{name}.__main__")
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        sys.exit(f"corolla: error while finding module {name!r}: {type(error).__name__}: {error}")
    loader: Any = spec.loader if spec is not None else None
    if spec is None or not hasattr(loader, "get_code"):
        sys.exit(f"corolla: no module named {name!r} that can be run")
    code = loader.get_code(spec.name)
    if code is None:
        sys.exit(f"corolla: no code object available for {spec.name!r}")
    sys.argv[0] = spec.origin or sys.argv[0]
    _run(
        code,
        __file__=spec.origin,
        __cached__=spec.cached,
        __loader__=loader,
        __package__=spec.parent,
        __spec__=spec,
    )


def _run(code: CodeType, **attributes: Any) -> None:
    """Run it as __main__, which it stays: threads, pickles and exit handlers may want it when its code is through."""
    module = ModuleType("__main__")
    vars(module).update(attributes, __builtins__=sys.modules["builtins"])
    vars(module).setdefault("__package__", None)
    sys.modules["__main__"] = module
    install()
    exec(code, vars(module))


def _is_container(path: str) -> bool:
    """What is no source: a directory or a zip file with a __main__ module, or compiled code."""
    return os.path.isdir(path) or path.endswith(".pyc") or zipfile.is_zipfile(path)


def _set_first_path(entry: str) -> None:
    # With -P there is nothing of ours in front.
    if not sys.flags.safe_path:
        sys.path[0] = entry


if __name__ == "__main__":
    main(sys.argv[1:])
