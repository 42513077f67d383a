"""What asyncio takes by keyword, its own Python methods being what they are, can be given by keyword here too."""

import asyncio
import concurrent.futures
import os
import signal

import impl
import pytest


async def returns():
    return 1


LOOP_CALLS = {
    "create_task": lambda loop: loop.run_until_complete(loop.create_task(coro=returns())),
    "run_until_complete": lambda loop: loop.run_until_complete(future=returns()),
    "call_soon": lambda loop: loop.call_soon(callback=int),
    "call_soon_threadsafe": lambda loop: loop.call_soon_threadsafe(callback=int),
    "call_later": lambda loop: loop.call_later(delay=1, callback=int),
    "call_at": lambda loop: loop.call_at(when=1, callback=int),
    "call_later, the callback alone": lambda loop: loop.call_later(1, callback=int),
    "set_debug": lambda loop: loop.set_debug(enabled=True),
    "set_exception_handler": lambda loop: loop.set_exception_handler(handler=None),
    "set_task_factory": lambda loop: loop.set_task_factory(factory=None),
    "call_exception_handler": lambda loop: loop.call_exception_handler(context={"message": "by keyword"}),
    "default_exception_handler": lambda loop: loop.default_exception_handler(context={"message": "by keyword"}),
    "set_default_executor": lambda loop: loop.set_default_executor(executor=concurrent.futures.ThreadPoolExecutor()),
    "run_in_executor": lambda loop: loop.run_until_complete(loop.run_in_executor(executor=None, func=int)),
    "add_signal_handler": lambda loop: loop.add_signal_handler(sig=signal.SIGUSR1, callback=int),
    "remove_signal_handler": lambda loop: loop.remove_signal_handler(sig=signal.SIGUSR1),
    "getaddrinfo": lambda loop: loop.run_until_complete(loop.getaddrinfo(host="127.0.0.1", port=80)),
    "getnameinfo": lambda loop: loop.run_until_complete(
        loop.getnameinfo(sockaddr=("127.0.0.1", 80), flags=1)  # NI_NUMERICHOST
    ),
}


@pytest.mark.parametrize("call", LOOP_CALLS.values(), ids=LOOP_CALLS)
def test_loop(loop, reports, call):
    call(loop)
    reports.clear()


def test_the_arguments_of_a_callback_are_no_keywords(loop):
    for call in (loop.call_soon, loop.call_soon_threadsafe):
        with pytest.raises(TypeError):
            call(int, unknown=1)
        with pytest.raises(TypeError):
            call(int, callback=int)
        with pytest.raises(TypeError):
            call()
    with pytest.raises(TypeError):
        loop.call_later(1)
    with pytest.raises(TypeError):
        loop.call_at(callback=int)


def test_descriptors(loop):
    read, write = os.pipe()
    try:
        loop.add_reader(fd=read, callback=int)
        assert loop.remove_reader(fd=read)
        loop.add_writer(fd=write, callback=int)
        assert loop.remove_writer(fd=write)
    finally:
        os.close(read)
        os.close(write)


def test_futures_and_tasks(loop):
    future = impl.Future(loop=loop)
    future.cancel(msg="message")
    task = impl.Task(coro=returns(), loop=loop, name="name", context=None)
    task.cancel(msg="message")
    task.get_stack(limit=1)
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(task)
    handle = impl.Handle(callback=int, args=(), loop=loop, context=None)
    timer = impl.TimerHandle(when=1, callback=int, args=(), loop=loop, context=None)
    assert not handle.cancelled()
    assert timer.when() == 1


def test_transports(run):
    async def main():
        loop = asyncio.get_running_loop()
        server = await loop.create_server(protocol_factory=asyncio.Protocol, host="127.0.0.1", port=0)
        host, port = server.sockets[0].getsockname()
        transport, protocol = await loop.create_connection(protocol_factory=asyncio.Protocol, host=host, port=port)
        assert transport.get_extra_info(name="no such thing", default=5) == 5
        transport.set_write_buffer_limits(high=10, low=5)
        transport.set_protocol(protocol=protocol)
        transport.write(data=b"x")
        transport.writelines(list_of_data=[b"x"])
        transport.abort()
        server.close()
        await server.wait_closed()

    run(main())
