/* What the files of sock_sendfile() and sendfile() share; for this room only. */
#ifndef COROLLA_LOOP_SENDFILE_H
#define COROLLA_LOOP_SENDFILE_H

#include "loop.h"

/* Which bytes of a file, as asked for. */
typedef struct FileRange {
    PyObject *file;   /* owned */
    PyObject *offset; /* owned, as given */
    PyObject *count;  /* owned, as given; None for all */
    long long at;     /* the next byte to send */
    long long left;   /* so many at most; -1: to the end */
    long long sent;
} FileRange;

int range_traverse(FileRange *range, visitproc visit, void *arg);
void range_clear(FileRange *range);
/* Takes the numbers out of offset and count, which have been checked. 0, or -1 with OverflowError. */
int range_parse(FileRange *range);

/* sendfile_fallback.c: coroutines that read in the executor and write. New reference or NULL. */
PyObject *sendfile_fallback(PyObject *loop, PyObject *sock, const FileRange *range);
PyObject *sendfile_transport_fallback(PyObject *loop, PyObject *transport, const FileRange *range);

#endif
