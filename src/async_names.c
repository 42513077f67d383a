/* Which functions and methods of the module are `async def` to those who ask. */
#include "scheduler/async_def.h"

/* Types by their name in the module. What is not there is passed over. Not __aenter__ and __aexit__, of which nobody
 * asks, and which `async with` is to find quickly. */
static const struct {
    const char *type; /* NULL: functions of the module */
    const char *const *names;
} async_names[] = {
    {NULL, (const char *const[]){"create_subprocess_exec", "create_subprocess_shell", "open_connection",
                                 "open_unix_connection", "sleep", "start_server", "start_unix_server", "to_thread",
                                 "wait", "wait_for", NULL}},
    {"Barrier", (const char *const[]){"abort", "reset", "wait", NULL}},
    {"BoundedSemaphore", (const char *const[]){"acquire", NULL}},
    {"Condition", (const char *const[]){"acquire", "wait", "wait_for", NULL}},
    {"Event", (const char *const[]){"wait", NULL}},
    {"EventLoop", (const char *const[]){"connect_accepted_socket",
                                        "connect_read_pipe",
                                        "connect_write_pipe",
                                        "create_connection",
                                        "create_datagram_endpoint",
                                        "create_server",
                                        "create_unix_connection",
                                        "create_unix_server",
                                        "getaddrinfo",
                                        "getnameinfo",
                                        "sendfile",
                                        "shutdown_asyncgens",
                                        "shutdown_default_executor",
                                        "sock_accept",
                                        "sock_connect",
                                        "sock_recv",
                                        "sock_recv_into",
                                        "sock_recvfrom",
                                        "sock_recvfrom_into",
                                        "sock_sendall",
                                        "sock_sendfile",
                                        "sock_sendto",
                                        "start_tls",
                                        "subprocess_exec",
                                        "subprocess_shell",
                                        NULL}},
    {"LifoQueue", (const char *const[]){"get", "join", "put", NULL}},
    {"Lock", (const char *const[]){"acquire", NULL}},
    {"PriorityQueue", (const char *const[]){"get", "join", "put", NULL}},
    {"Process", (const char *const[]){"communicate", "wait", NULL}},
    {"Queue", (const char *const[]){"get", "join", "put", NULL}},
    {"Semaphore", (const char *const[]){"acquire", NULL}},
    {"Server", (const char *const[]){"serve_forever", "start_serving", "wait_closed", NULL}},
    {"Stream", (const char *const[]){"close", "peek", "read", "readexactly", "readinto", "readline", "readuntil",
                                     "sendfile", "start_tls", "write", "write_eof", "writelines", NULL}},
    {"StreamReader", (const char *const[]){"read", "readexactly", "readline", "readuntil", NULL}},
    {"StreamWriter", (const char *const[]){"drain", "start_tls", "wait_closed", NULL}},
};

int
corolla_mark_async_names(PyObject *module, corolla_state *state)
{
    PyObject *names = PyModule_GetDict(module); /* borrowed */
    for (size_t i = 0; i < sizeof async_names / sizeof *async_names; i++) {
        PyObject *type = NULL; /* borrowed */
        if (async_names[i].type != NULL && (type = PyDict_GetItemString(names, async_names[i].type)) == NULL) {
            continue;
        }
        for (const char *const *name = async_names[i].names; *name != NULL; name++) {
            if ((type == NULL ? corolla_async_function(state, module, *name)
                              : corolla_async_method(state, (PyTypeObject *)type, *name)) < 0) {
                return -1;
            }
        }
    }
    return 0;
}
