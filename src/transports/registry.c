/* What a loop knows of its transports and servers: who has which descriptor, and whom it keeps alive. */
#include "datagram.h"
#include "pipe.h"
#include "process.h"
#include "tcp.h"
#include "tls/tls.h"

#include <string.h>

enum { FIRST_SIZE = 64 };

static corolla_registry *
registry_of(corolla_core *core)
{
    if (core->registry == NULL) {
        core->registry = PyMem_Calloc(1, sizeof *core->registry);
        if (core->registry == NULL) {
            PyErr_NoMemory();
            return NULL;
        }
        corolla_guest *guests = &core->registry->guests;
        guests->next = guests->prev = guests;
    }
    return core->registry;
}

int
registry_add(corolla_core *core, TcpTransport *t)
{
    corolla_registry *registry = registry_of(core);
    if (registry == NULL) {
        return -1;
    }
    size_t fd = (size_t)t->fd;
    if (fd >= registry->size) {
        size_t size = registry->size ? registry->size : FIRST_SIZE;
        while (size <= fd) {
            size *= 2;
        }
        TcpTransport **table = PyMem_Realloc(registry->by_fd, size * sizeof *table);
        if (table == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        memset(table + registry->size, 0, (size - registry->size) * sizeof *table);
        registry->by_fd = table;
        registry->size = size;
    }
    if (registry->by_fd[fd] != NULL) {
        PyErr_Format(PyExc_RuntimeError, "File descriptor %d is used by transport %R", t->fd, registry->by_fd[fd]);
        return -1;
    }
    registry->by_fd[fd] = t;
    t->registered = true;
    return 0;
}

void
registry_remove(corolla_core *core, TcpTransport *t)
{
    if (t->registered) {
        t->registered = false;
        core->registry->by_fd[t->fd] = NULL;
    }
}

int
registry_add_server(corolla_core *core, Server *server)
{
    corolla_registry *registry = registry_of(core);
    if (registry == NULL) {
        return -1;
    }
    server->prev = NULL;
    server->next = registry->servers;
    if (server->next != NULL) {
        server->next->prev = server;
    }
    registry->servers = (Server *)Py_NewRef(server);
    server->held = true;
    return 0;
}

void
registry_remove_server(corolla_core *core, Server *server)
{
    if (!server->held) {
        return;
    }
    server->held = false;
    if (server->next != NULL) {
        server->next->prev = server->prev;
    }
    if (server->prev != NULL) {
        server->prev->next = server->next;
    }
    else {
        core->registry->servers = server->next;
    }
    server->next = server->prev = NULL;
    Py_DECREF(server);
}

int
corolla_guest_add(corolla_core *core, corolla_guest *guest)
{
    corolla_registry *registry = registry_of(core);
    if (registry == NULL) {
        return -1;
    }
    guest->next = registry->guests.next;
    guest->prev = &registry->guests;
    guest->next->prev = guest->prev->next = guest;
    return 0;
}

void
corolla_guest_remove(corolla_guest *guest)
{
    if (guest->next == NULL) {
        return;
    }
    guest->next->prev = guest->prev;
    guest->prev->next = guest->next;
    guest->next = guest->prev = NULL;
}

/* ---- For the loop -------------------------------------------------------------------------- */

PyObject *
corolla_transport_at(corolla_core *core, int fd)
{
    corolla_registry *registry = core->registry;
    if (registry == NULL || fd < 0) {
        return NULL;
    }
    TcpTransport *t = (size_t)fd < registry->size ? registry->by_fd[fd] : NULL;
    if (t == NULL) {
        return corolla_datagram_endpoint_at(core, fd);
    }
    return t->closing ? NULL : (PyObject *)t;
}

int
corolla_transports_traverse(corolla_core *core, visitproc visit, void *arg)
{
    corolla_registry *registry = core->registry;
    if (registry == NULL) {
        return 0;
    }
    for (size_t i = 0; i < registry->size; i++) {
        if (registry->by_fd[i] != NULL && registry->by_fd[i]->held) {
            Py_VISIT(registry->by_fd[i]);
        }
    }
    for (Server *server = registry->servers; server != NULL; server = server->next) {
        Py_VISIT(server);
    }
    for (corolla_guest *guest = registry->guests.next; guest != &registry->guests; guest = guest->next) {
        Py_VISIT(guest->held);
    }
    return 0;
}

void
corolla_transports_close(corolla_core *core)
{
    corolla_registry *registry = core->registry;
    if (registry == NULL) {
        return;
    }
    while (registry->guests.next != &registry->guests) {
        corolla_guest *guest = registry->guests.next;
        corolla_guest_remove(guest);
        guest->leave(guest);
    }
    while (registry->servers != NULL) {
        Server *server = registry->servers;
        server_stop_listening(server);
        registry_remove_server(core, server);
    }
    for (size_t i = 0; i < registry->size; i++) {
        TcpTransport *t = registry->by_fd[i];
        if (t == NULL) {
            continue;
        }
        Py_INCREF(t);
        registry_remove(core, t);
        corolla_stream_close(&t->stream);
        tcp_update_hold(t);
        Py_DECREF(t); /* may be the last, and warn of a transport that nobody closed */
    }
    core->registry = NULL;
    PyMem_Free(registry->by_fd);
    PyMem_Free(registry);
}

bool
corolla_transports_own_job(corolla_job_fn fn)
{
    return fn == tcp_made_job || fn == tcp_lost_job || fn == pipe_made_job || fn == pipe_eof_job ||
           fn == pipe_lost_job || fn == datagram_made_job || fn == datagram_lost_job || fn == process_made_job ||
           fn == process_lost_job || fn == tls_resume_job || fn == tls_upgrade_job;
}

int
corolla_transports_init(PyObject *module, corolla_state *state)
{
    if (tcp_init(module, state) < 0 || server_init(module, state) < 0 || pipe_read_init(module, state) < 0 ||
        pipe_write_init(module, state) < 0 || datagram_init(module, state) < 0 || process_init(module, state) < 0 ||
        tls_window_init(module, state) < 0 || tls_protocol_init(module, state) < 0 ||
        tls_transport_init(module, state) < 0) {
        return -1;
    }
    return 0;
}
