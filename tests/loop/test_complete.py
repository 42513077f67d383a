"""The loop has every method of AbstractEventLoop."""

import asyncio

import impl


def test_nothing_is_missing():
    names = [name for name in vars(asyncio.AbstractEventLoop) if not name.startswith("_")]
    missing = [name for name in names if getattr(impl.EventLoop, name) is getattr(asyncio.AbstractEventLoop, name)]
    assert missing == []
