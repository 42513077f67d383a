"""Fixtures of the transports' tests."""

import pathlib

import pytest


@pytest.fixture
def path(tmp_path: pathlib.Path) -> str:
    """Where a Unix socket may be bound."""
    return str(tmp_path / "sock")
