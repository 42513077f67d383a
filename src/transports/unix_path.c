/* The path a server's Unix socket is bound to: removed when the server closes, if it is still that socket's. */
#include "tcp.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

struct unix_path {
    dev_t device;
    ino_t inode;
    unsigned forks;                                             /* corolla_fork_count() of the process that bound it */
    char path[sizeof(((struct sockaddr_un *)0)->sun_path) + 1]; /* NUL-terminated, which the kernel's need not be */
};

/* The path a descriptor is bound to. False for what is not bound, abstract, or no Unix socket. */
static bool
bound_path(int fd, char path[sizeof(((struct unix_path *)0)->path)])
{
    struct sockaddr_un addr;
    socklen_t len = sizeof addr;
    memset(&addr, 0, sizeof addr);
    if (getsockname(fd, (struct sockaddr *)&addr, &len) < 0 || addr.sun_family != AF_UNIX || addr.sun_path[0] == '\0') {
        return false;
    }
    memcpy(path, addr.sun_path, sizeof addr.sun_path);
    path[sizeof addr.sun_path] = '\0';
    return true;
}

/* stat(2) without the interpreter's lock: 0 or errno. */
static int
look_up(const char *path, struct stat *found)
{
    int err;
    Py_BEGIN_ALLOW_THREADS
    err = stat(path, found) < 0 ? errno : 0;
    Py_END_ALLOW_THREADS
    return err;
}

int
corolla_server_own_path(PyObject *self, PyObject *sock)
{
    Server *server = (Server *)self;
    struct unix_path own;
    int fd = PyObject_AsFileDescriptor(sock);
    if (fd < 0) {
        return -1;
    }
    struct stat found;
    if (!bound_path(fd, own.path) || look_up(own.path, &found) != 0) {
        return 0; /* nothing that we could tell to be ours */
    }
    own.device = found.st_dev;
    own.inode = found.st_ino;
    own.forks = corolla_fork_count();
    server->path = PyMem_Malloc(sizeof own);
    if (server->path == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    *server->path = own;
    return 0;
}

/* 0 or errno. */
static int
remove_if_same(const struct unix_path *own)
{
    struct stat found;
    int err = look_up(own->path, &found);
    if (err == 0 && found.st_dev == own->device && found.st_ino == own->inode) {
        Py_BEGIN_ALLOW_THREADS
        err = unlink(own->path) < 0 ? errno : 0;
        Py_END_ALLOW_THREADS
    }
    return err == ENOENT ? 0 : err;
}

void
server_remove_path(Server *server)
{
    struct unix_path *own = server->path;
    server->path = NULL;
    /* In a forked child it is the parent's, who goes on serving. */
    int err = own == NULL || own->forks != corolla_fork_count() ? 0 : remove_if_same(own);
    if (err != 0) {
        PyObject *path = PyUnicode_DecodeFSDefault(own->path), *exc = NULL, *done = NULL;
        if (path != NULL) {
            errno = err;
            PyErr_SetFromErrnoWithFilenameObject(PyExc_OSError, path);
            exc = PyErr_GetRaisedException();
            done = PyObject_CallMethod(server->state->logger, "error", "sOO",
                                       "Unable to clean up listening UNIX socket %r: %r", path, exc);
        }
        if (done == NULL) {
            PyErr_WriteUnraisable((PyObject *)server);
        }
        Py_XDECREF(path);
        Py_XDECREF(exc);
        Py_XDECREF(done);
    }
    PyMem_Free(own);
}
