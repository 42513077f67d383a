/* The module's state: one for each interpreter that imports corolla. No Python object of ours lives
 * anywhere else.
 *
 * It is freed when the module is gone and so is the last object of ours: when an interpreter ends, the
 * collector may clear the types and the module before the objects, whose deallocators still look here. So
 * every object of ours counts itself with corolla_state_hold() and corolla_state_drop(). */
#ifndef COROLLA_STATE_H
#define COROLLA_STATE_H

#include <stdbool.h>

#include "compat.h"

/* Interned once at import. corolla_state.s.NAME */
#define COROLLA_STRINGS(X)       \
    X(__aenter__)                \
    X(__aexit__)                 \
    X(__class__)                 \
    X(__name__)                  \
    X(__qualname__)              \
    X(__self__)                  \
    X(_asyncio_future_blocking)  \
    X(_loop)                     \
    X(_must_cancel)              \
    X(_timer_handle_cancelled)   \
    X(_cancel_message)           \
    X(_make_cancelled_error)     \
    X(_log_destroy_pending)      \
    X(_source_traceback)         \
    X(_client_connected_cb)      \
    X(_drain_helper)             \
    X(_get_close_waiter)         \
    X(_replace_transport)        \
    X(_start_tls_compatible)     \
    X(_stream_reader)            \
    X(_buffer)                   \
    X(add_done_callback)         \
    X(remove_done_callback)      \
    X(call_at)                   \
    X(call_exception_handler)    \
    X(call_later)                \
    X(call_soon)                 \
    X(call_soon_threadsafe)      \
    X(cancel)                    \
    X(cancelled)                 \
    X(close)                     \
    X(context)                   \
    X(create_future)             \
    X(create_task)               \
    X(default_exception_handler) \
    X(done)                      \
    X(exception)                 \
    X(future)                    \
    X(get_debug)                 \
    X(get_loop)                  \
    X(handle)                    \
    X(is_running)                \
    X(message)                   \
    X(msg)                       \
    X(name)                      \
    X(loop)                      \
    X(result)                    \
    X(send)                      \
    X(source_traceback)          \
    X(task)                      \
    X(throw)                     \
    X(time)                      \
    X(set_name)                  \
    X(connection_made)           \
    X(pipe)                      \
    X(mode)                      \
    X(seek)                      \
    X(readinto)                  \
    X(run_in_executor)           \
    X(sock_sendall)              \
    X(_sendfile_native)          \
    X(_sock_sendfile_native)     \
    X(_sendfile_compatible)      \
    X(_protocol_paused)          \
    X(connection_lost)           \
    X(data_received)             \
    X(datagram_received)         \
    X(error_received)            \
    X(recvfrom)                  \
    X(recvfrom_into)             \
    X(sendto)                    \
    X(bind)                      \
    X(setsockopt)                \
    X(sock_connect)              \
    X(eof_received)              \
    X(buffer_updated)            \
    X(get_buffer)                \
    X(pause_writing)             \
    X(resume_writing)            \
    X(protocol)                  \
    X(transport)                 \
    X(socket)                    \
    X(asyncgen)                  \
    X(aclose)                    \
    X(detach)                    \
    X(fileno)                    \
    X(peername)                  \
    X(sockname)                  \
    X(sslcontext)                \
    X(server)                    \
    X(eager_start)               \
    X(debug)                     \
    X(accept)                    \
    X(connect)                   \
    X(family)                    \
    X(flags)                     \
    X(getaddrinfo)               \
    X(getnameinfo)               \
    X(getsockopt)                \
    X(gettimeout)                \
    X(host)                      \
    X(info)                      \
    X(port)                      \
    X(proto)                     \
    X(recv)                      \
    X(recv_into)                 \
    X(setblocking)               \
    X(shutdown)                  \
    X(start)                     \
    X(submit)                    \
    X(type)                      \
    X(wait)                      \
    X(add)                       \
    X(clear)                     \
    X(discard)                   \
    X(join)                      \
    X(args)                      \
    X(target)                    \
    X(executor)                  \
    X(func)                      \
    X(set_result)                \
    X(set_exception)             \
    X(SSLSocket)                 \
    X(warn_on_full_buffer)       \
    X(signum)                    \
    X(sig)                       \
    X(ident)                     \
    X(sockaddr)                  \
    X(acquire)                   \
    X(locked)                    \
    X(notify)                    \
    X(release)                   \
    X(_abort)                    \
    X(_is_base_error)            \
    X(_on_task_done)             \
    X(task_group)                \
    X(_init)                     \
    X(_put)                      \
    X(_get)                      \
    X(_wakeup_next)              \
    X(_format)                   \
    X(append)                    \
    X(empty)                     \
    X(full)                      \
    X(get_nowait)                \
    X(pop)                       \
    X(popleft)                   \
    X(put_nowait)                \
    X(qsize)                     \
    X(remove)                    \
    X(set)                       \
    X(abort)                     \
    X(can_write_eof)             \
    X(drain)                     \
    X(feed_data)                 \
    X(feed_eof)                  \
    X(get_extra_info)            \
    X(is_closed)                 \
    X(is_closing)                \
    X(pause_reading)             \
    X(resume_reading)            \
    X(sendfile)                  \
    X(set_transport)             \
    X(start_tls)                 \
    X(write)                     \
    X(write_eof)                 \
    X(writelines)                \
    X(cancelling)                \
    X(uncancel)                  \
    X(wrap_bio)                  \
    X(do_handshake)              \
    X(unwrap)                    \
    X(getpeercert)               \
    X(peercert)                  \
    X(cipher)                    \
    X(compression)               \
    X(ssl_object)                \
    X(close_notify)              \
    X(server_side)               \
    X(server_hostname)           \
    X(pending)                   \
    X(read)                      \
    X(_sslobj)                   \
    X(_force_close)              \
    X(set_protocol)              \
    X(run)                       \
    X(exceptions)                \
    X(kill)                      \
    X(_wait)                     \
    X(get_pid)                   \
    X(get_pipe_transport)        \
    X(get_returncode)            \
    X(send_signal)               \
    X(terminate)                 \
    X(pipe_connection_lost)      \
    X(pipe_data_received)        \
    X(process_exited)            \
    X(returncode)                \
    X(subprocess)                \
    X(__asyncio_running_event_loop__)

/* asyncio's own test, without the deprecation warning of its public name. */
#if PY_VERSION_HEX >= 0x030E0000
#define COROLLA_ISCOROUTINEFUNCTION "_iscoroutinefunction"
#else
#define COROLLA_ISCOROUTINEFUNCTION "iscoroutinefunction"
#endif

/* Things of the standard library, imported when the module is. corolla_state.NAME */
#define COROLLA_IMPORTS(X)                                                            \
    X(asyncio_Future, "asyncio", "Future")                                            \
    X(asyncio_Task, "asyncio", "Task")                                                \
    X(asyncio_Handle, "asyncio", "Handle")                                            \
    X(asyncio_TimerHandle, "asyncio", "TimerHandle")                                  \
    X(asyncio_BufferedProtocol, "asyncio", "BufferedProtocol")                        \
    X(AbstractEventLoop, "asyncio", "AbstractEventLoop")                              \
    X(asyncio_Transport, "asyncio", "Transport")                                      \
    X(asyncio_ReadTransport, "asyncio", "ReadTransport")                              \
    X(asyncio_WriteTransport, "asyncio", "WriteTransport")                            \
    X(UnsupportedOperation, "io", "UnsupportedOperation")                             \
    X(SendfileNotAvailableError, "asyncio", "SendfileNotAvailableError")              \
    X(asyncio_SSLTransport, "asyncio.sslproto", "_SSLProtocolTransport")              \
    X(asyncio_DatagramTransport, "asyncio", "DatagramTransport")                      \
    X(FileIO, "io", "FileIO")                                                         \
    X(asyncio_Protocol, "asyncio", "Protocol")                                        \
    X(IncompleteReadError, "asyncio", "IncompleteReadError")                          \
    X(LimitOverrunError, "asyncio", "LimitOverrunError")                              \
    X(asyncio_Server, "asyncio.base_events", "Server")                                \
    X(CancelledError, "asyncio", "CancelledError")                                    \
    X(InvalidStateError, "asyncio", "InvalidStateError")                              \
    X(get_running_loop, "asyncio", "get_running_loop")                                \
    X(_get_running_loop, "asyncio", "_get_running_loop")                              \
    X(_set_running_loop, "asyncio", "_set_running_loop")                              \
    X(get_event_loop, "asyncio", "get_event_loop")                                    \
    X(logger, "asyncio.log", "logger")                                                \
    X(iscoroutine, "asyncio", "iscoroutine")                                          \
    X(CoroutineType, "types", "CoroutineType")                                        \
    X(extract_stack, "asyncio.format_helpers", "extract_stack")                       \
    X(format_callback_source, "asyncio.format_helpers", "_format_callback_source")    \
    X(future_repr, "asyncio.base_futures", "_future_repr")                            \
    X(future_repr_info, "asyncio.base_futures", "_future_repr_info")                  \
    X(task_repr, "asyncio.base_tasks", "_task_repr")                                  \
    X(task_get_stack, "asyncio.base_tasks", "_task_get_stack")                        \
    X(task_print_stack, "asyncio.base_tasks", "_task_print_stack")                    \
    X(warn_unawaited, "warnings", "_warn_unawaited_coroutine")                        \
    X(TransportSocket, "asyncio.trsock", "TransportSocket")                           \
    X(socket_type, "socket", "socket")                                                \
    X(gaierror, "socket", "gaierror")                                                 \
    X(set_result_unless_cancelled, "asyncio.futures", "_set_result_unless_cancelled") \
    X(BrokenBarrierError, "asyncio", "BrokenBarrierError")                            \
    X(BarrierState, "asyncio.locks", "_BarrierState")                                 \
    X(BaseEventLoop, "asyncio.base_events", "BaseEventLoop")                          \
    X(isfuture, "asyncio", "isfuture")                                                \
    X(ensure_future, "asyncio", "ensure_future")                                      \
    X(get_asyncgen_hooks, "sys", "get_asyncgen_hooks")                                \
    X(set_asyncgen_hooks, "sys", "set_asyncgen_hooks")                                \
    X(get_origin_depth, "sys", "get_coroutine_origin_tracking_depth")                 \
    X(set_origin_depth, "sys", "set_coroutine_origin_tracking_depth")                 \
    X(wrap_future, "asyncio", "wrap_future")                                          \
    X(copy_context, "contextvars", "copy_context")                                    \
    X(gather, "asyncio", "gather")                                                    \
    X(GatheringFuture, "asyncio.tasks", "_GatheringFuture")                           \
    X(iscoroutinefunction, "asyncio.coroutines", COROLLA_ISCOROUTINEFUNCTION)         \
    X(concurrent_Future, "concurrent.futures", "Future")                              \
    X(concurrent_CancelledError, "concurrent.futures", "CancelledError")              \
    X(concurrent_InvalidStateError, "concurrent.futures", "InvalidStateError")        \
    X(deque, "collections", "deque")                                                  \
    X(QueueEmpty, "asyncio", "QueueEmpty")                                            \
    X(QueueFull, "asyncio", "QueueFull")                                              \
    X(WeakSet, "weakref", "WeakSet")                                                  \
    X(main_thread, "threading", "main_thread")                                        \
    X(Thread, "threading", "Thread")                                                  \
    X(AddressFamily, "socket", "AddressFamily")                                       \
    X(SocketKind, "socket", "SocketKind")                                             \
    X(socket_getaddrinfo, "socket", "getaddrinfo")                                    \
    X(socket_getnameinfo, "socket", "getnameinfo")                                    \
    X(current_task, "asyncio", "current_task")                                        \
    X(isawaitable, "inspect", "isawaitable")                                          \
    X(ExceptionGroup, "builtins", "ExceptionGroup")                                   \
    X(partial, "functools", "partial")                                                \
    X(signal_signal, "signal", "signal")                                              \
    X(signal_getsignal, "signal", "getsignal")                                        \
    X(signal_siginterrupt, "signal", "siginterrupt")                                  \
    X(signal_set_wakeup_fd, "signal", "set_wakeup_fd")                                \
    X(signal_valid_signals, "signal", "valid_signals")                                \
    X(signal_default_int_handler, "signal", "default_int_handler")                    \
    X(signal_SIG_DFL, "signal", "SIG_DFL")                                            \
    X(asyncio_SubprocessProtocol, "asyncio", "SubprocessProtocol")                    \
    X(asyncio_SubprocessTransport, "asyncio", "SubprocessTransport")                  \
    X(Popen, "subprocess", "Popen")

typedef struct corolla_state {
    PyObject *module;  /* borrowed; NULL once the module is gone */
    Py_ssize_t living; /* objects of ours, and one for the module */

    struct {
#define X(name) PyObject *name;
        COROLLA_STRINGS(X)
#undef X
    } s; /* owned, each */

#define X(name, module, attribute) PyObject *name;
    COROLLA_IMPORTS(X) /* owned, each */
#undef X

    /* scheduler/ */
    PyTypeObject *handle_type, *timer_handle_type, *future_type, *task_type, *future_iter_type; /* owned, each */
    PyTypeObject *callback_type, *coroutine_type, *coro_wrapper_type, *stop_type;               /* owned, each */
    PyTypeObject *eager_factory_type, *async_function_type, *special_type, *bound_type;         /* owned, each */
    PyTypeObject *with_coroutine_type;                                                          /* owned */
    PyObject *async_code;                                                                       /* owned: async_def.c */
    PyObject *current_tasks;      /* owned: asyncio's dict of loop to task, before 3.14 */
    PyObject *swap_current;       /* owned: _asyncio._swap_current_task, from 3.14 on */
    struct corolla_core *running; /* borrowed: the loop that was last begun to run, NULL once it has ended */
    struct corolla_cancel_wait *cancel_waits; /* borrowed: head of a list on the stacks of threads, handle_wait.c */
    struct corolla_task *tasks;               /* borrowed: head of the list of tasks not done */
    uint64_t task_names;                      /* Task-N, the last given */
    struct corolla_freelists *freelists;      /* owned */
    bool format_takes_debug;                  /* asyncio's _format_callback_source(debug=), newer than 3.12.3 */

    /* primitives/ */
    PyTypeObject *gather_type, *timeout_type, *as_completed_type;     /* owned, each */
    PyTypeObject *link_type;                                          /* owned */
    PyTypeObject *queue_type, *priority_queue_type, *lifo_queue_type; /* owned, each */
    PyTypeObject *task_group_type;                                    /* owned */
    PyObject *QueueShutDown;                                          /* owned: asyncio's, or ours before 3.13 */
    PyTypeObject *lock_type, *event_type, *condition_type, *semaphore_type, *bounded_semaphore_type; /* owned, each */
    PyTypeObject *barrier_type;                                                                      /* owned */

    /* transports/ */
    PyTypeObject *tcp_transport_type, *unix_transport_type, *server_type; /* owned, each */
    PyTypeObject *read_pipe_type, *write_pipe_type;                       /* owned, each */
    PyTypeObject *datagram_endpoint_type;                                 /* owned */
    PyTypeObject *process_type, *process_pipe_type;                       /* owned, each */

    PyTypeObject *tls_transport_type, *tls_protocol_type, *tls_window_type; /* owned, each */
    const struct corolla_native_protocol *tls_protocol_ops; /* borrowed: static; for tls_protocol_type */
    PyObject *ssl_MemoryBIO, *ssl_SSLObject;                /* owned, each: NULL until TLS is asked for */
    PyObject *ssl_SSLWantReadError, *ssl_SSLSyscallError;   /* the same */
    PyObject *ssl_CertificateError;                         /* the same; the last */

    /* streams/ */
    PyTypeObject *stream_reader_type, *stream_protocol_type, *stream_writer_type; /* owned, each */
    PyTypeObject *stream_type, *stream_acceptor_type, *stream_connecting_type;    /* owned, each */
    PyTypeObject *subprocess_protocol_type, *stream_process_type;                 /* owned, each */
    const struct corolla_native_protocol *stream_protocol_ops; /* borrowed: static; for stream_protocol_type exactly */
    const struct corolla_native_protocol *stream_reader_ops;   /* borrowed: static; for stream_reader_type exactly */
    PyObject *(*subprocess_reader)(PyObject *protocol,
                                   int fd); /* process_protocol.c; for subprocess_protocol_type exactly */

    /* loop/ */
    PyObject *socket_fileno;              /* owned: the method of the socket module's own type, or NULL */
    PyTypeObject *loop_base_type;         /* owned: the C part */
    PyTypeObject *sendfile_protocol_type; /* owned */
    /* owned, each: members of asyncio's _SendfileMode */
    PyObject *sendfile_try_native, *sendfile_fallback, *sendfile_unsupported;
    PyTypeObject *loop_type; /* owned: EventLoop, with AbstractEventLoop among its bases */
    bool forgets_wakeup_fd;  /* a forked child is told to: signals.c has registered that */
} corolla_state;

extern struct PyModuleDef corolla_module;

void corolla_state_free(corolla_state *state);

static inline void
corolla_state_hold(corolla_state *state)
{
    state->living++;
}

/* The last thing a deallocator does with the state. */
static inline void
corolla_state_drop(corolla_state *state)
{
    if (--state->living == 0) {
        corolla_state_free(state);
    }
}

/* The state of the module that a type of ours, or a Python subclass of one, belongs to. NULL with an
 * exception for a foreign type. */
corolla_state *corolla_state_of_type(PyTypeObject *type);
corolla_state *corolla_state_of_module(PyObject *module);

/* Each room adds its types to the module. 0 or -1. */
int corolla_scheduler_init(PyObject *module, corolla_state *state);
void corolla_scheduler_free(corolla_state *state); /* frees the free lists; no object may be left */
int corolla_primitives_init(PyObject *module, corolla_state *state);
int corolla_transports_init(PyObject *module, corolla_state *state);
int corolla_streams_init(PyObject *module, corolla_state *state);
int corolla_loop_init(PyObject *module, corolla_state *state);
int corolla_mark_async_names(PyObject *module, corolla_state *state); /* when all are there: async_names.c */

/* Lets `async with` bind __aenter__() and __aexit__() of a type just made cheaply: scheduler/special.c. 0 or -1. */
int corolla_quicken_type(corolla_state *state, PyTypeObject *type);
/* Adds methods that other files define to a type just made. 0 or -1. */
int corolla_add_methods(PyTypeObject *type, PyMethodDef *methods);

#endif
