/* Who waits for a descriptor: the callbacks of add_reader() and add_writer(), and the socket calls of sock.c.
 *
 * A descriptor has one entry, made at its first use and kept until the loop closes, so that no callback can pull it
 * from under itself. An entry has two sides, reading and writing; on each there may be one Handle and any number of
 * waits, which are served in turn. */
#include "loop.h"

#include <errno.h>
#include <sys/timerfd.h>
#include <unistd.h>

enum { READING, WRITING, SIDES };

static const unsigned side_event[SIDES] = {COROLLA_READABLE, COROLLA_WRITABLE};

typedef struct Side {
    PyObject *handle;        /* owned, or NULL */
    loop_wait *first, *last; /* borrowed: they are in the states of coroutines */
} Side;

struct corolla_reader {
    corolla_watch watch;
    LoopObject *loop; /* borrowed: it owns the entry */
    int fd;
    PyObject *file;           /* owned: the object add_reader() was given in place of a number, or NULL */
    PyObject *kept;           /* owned: weak reference to the socket whose watch is kept while nobody waits, or NULL */
    size_t read_hint;         /* of sock.c */
    bool served;              /* a wait was told, and its call may not have run yet: what it will read is still there */
    bool doubted;             /* on the loop's list of those whose watch is to be looked at */
    size_t waits, doubted_at; /* how many began with a watch that was there; the number when it was last looked at */
    struct corolla_reader *after; /* borrowed: the next on that list */
    Side sides[SIDES];
};
typedef struct corolla_reader Entry;

/* ---- Descriptors --------------------------------------------------------------------------- */

/* -1 with ValueError for what has no descriptor; -1 without an exception for an object whose descriptor is closed. */
static int
fileno_of(PyObject *obj)
{
    if (PyLong_Check(obj)) {
        int overflow;
        long fd = PyLong_AsLongAndOverflow(obj, &overflow);
        if (overflow || fd < 0 || fd > INT_MAX) {
            PyErr_Format(PyExc_ValueError, "Invalid file descriptor: %S", obj);
            return -1;
        }
        return (int)fd;
    }
    PyObject *number = NULL;
    PyObject *given = PyObject_CallMethod(obj, "fileno", NULL);
    if (given != NULL) {
        number = PyNumber_Long(given);
        Py_DECREF(given);
    }
    long fd = -1;
    if (number != NULL) {
        fd = PyLong_AsLong(number);
        Py_DECREF(number);
    }
    if (PyErr_Occurred()) {
        if (PyErr_ExceptionMatches(PyExc_AttributeError) || PyErr_ExceptionMatches(PyExc_TypeError) ||
            PyErr_ExceptionMatches(PyExc_ValueError) || PyErr_ExceptionMatches(PyExc_OverflowError)) {
            PyErr_Clear();
            PyErr_Format(PyExc_ValueError, "Invalid file object: %R", obj);
        }
        return -1;
    }
    return fd < 0 || fd > INT_MAX ? -1 : (int)fd;
}

int
loop_fileno(PyObject *obj)
{
    int fd = fileno_of(obj);
    if (fd < 0 && !PyErr_Occurred()) {
        PyErr_SetString(PyExc_ValueError, "Invalid file descriptor: -1");
    }
    return fd;
}

int
loop_check_no_transport(LoopObject *self, int fd, PyObject *shown)
{
    PyObject *transport = corolla_transport_at(&self->head.core, fd);
    if (transport == NULL) {
        return 0;
    }
    PyErr_Format(PyExc_RuntimeError, "File descriptor %R is used by transport %R", shown, transport);
    return -1;
}

/* ---- Entries ------------------------------------------------------------------------------- */

static int entry_ready(corolla_watch *watch, unsigned events);

static Entry *
entry_find(LoopObject *self, int fd)
{
    return fd >= 0 && (size_t)fd < self->reader_count ? self->readers[fd] : NULL;
}

/* The entry that was given that object, whose descriptor is closed by now. */
static Entry *
entry_find_closed(LoopObject *self, PyObject *file)
{
    for (size_t i = 0; i < self->reader_count; i++) {
        if (self->readers[i] != NULL && self->readers[i]->file == file) {
            return self->readers[i];
        }
    }
    return NULL;
}

static int
reserve(LoopObject *self, int fd)
{
    size_t count = self->reader_count != 0 ? self->reader_count : 64;
    while (count <= (size_t)fd) {
        count *= 2;
    }
    if (count == self->reader_count) {
        return 0;
    }
    Entry **table = PyMem_Realloc(self->readers, count * sizeof *table);
    if (table == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (size_t i = self->reader_count; i < count; i++) {
        table[i] = NULL;
    }
    self->readers = table;
    self->reader_count = count;
    return 0;
}

/* The entry of a descriptor, made when there is none. NULL with MemoryError. */
static Entry *
entry_get(LoopObject *self, int fd)
{
    Entry *entry = entry_find(self, fd);
    if (entry != NULL) {
        return entry;
    }
    if (reserve(self, fd) < 0) {
        return NULL;
    }
    entry = PyMem_Calloc(1, sizeof *entry);
    if (entry == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    corolla_watch_init(&entry->watch, entry_ready);
    entry->loop = self;
    entry->fd = fd;
    self->readers[fd] = entry;
    return entry;
}

static unsigned
entry_interest(const Entry *entry)
{
    unsigned interest = 0;
    for (unsigned side = 0; side < SIDES; side++) {
        if (entry->sides[side].handle != NULL || entry->sides[side].first != NULL) {
            interest |= side_event[side];
        }
    }
    return interest;
}

/* COROLLA_EDGE if those in an entry, and one more for event, can do with being told of changes: a wait begins when its
 * call has found nothing more, so it needs no reminder of what stays ready, and polls are cheaper without. Not so a
 * handle, or the second of two waits for the same thing: what the first leaves is for it. */
static unsigned
entry_edge(const Entry *entry, unsigned event)
{
    for (unsigned side = 0; side < SIDES; side++) {
        const Side *s = &entry->sides[side];
        if (s->handle != NULL || s->first != s->last || (s->first != NULL && (event & side_event[side]) != 0)) {
            return 0;
        }
    }
    return COROLLA_EDGE;
}

/* Takes a wait out of its side; the future is the caller's. */
static PyObject *
wait_unlink(loop_wait *wait)
{
    Side *side = &wait->entry->sides[wait->side];
    if (wait->prev != NULL) {
        wait->prev->next = wait->next;
    }
    else {
        side->first = wait->next;
    }
    if (wait->next != NULL) {
        wait->next->prev = wait->prev;
    }
    else {
        side->last = wait->prev;
    }
    PyObject *future = wait->future;
    wait->entry = NULL;
    wait->prev = wait->next = NULL;
    wait->future = NULL;
    return future;
}

/* Tells the loop of a future; steals it. 0, or -1 with what has to leave the loop. */
static int
tell(LoopObject *self, PyObject *future)
{
    int rc = corolla_future_complete(future, Py_None);
    if (rc < 0) {
        rc = corolla_report_raised(self->head.core.state, (PyObject *)self, "Exception while waking a socket call",
                                   NULL, NULL);
    }
    Py_DECREF(future);
    return rc;
}

/* Whatever an entry was watching is gone: nobody in it will ever hear of it. Handles are dropped, as by asyncio's
 * selector; waits are told, and their calls find out for themselves. What comes in meanwhile stays. */
static void
entry_forget(Entry *entry)
{
    LoopObject *self = entry->loop;
    corolla_watch_stop(&entry->watch);
    PyObject *file = entry->file, *kept = entry->kept, *handles[SIDES];
    size_t waits[SIDES] = {0, 0};
    entry->file = entry->kept = NULL;
    for (unsigned side = 0; side < SIDES; side++) {
        handles[side] = entry->sides[side].handle;
        entry->sides[side].handle = NULL;
        for (loop_wait *wait = entry->sides[side].first; wait != NULL; wait = wait->next) {
            waits[side]++;
        }
    }
    for (unsigned side = 0; side < SIDES; side++) {
        while (waits[side]-- > 0 && entry->sides[side].first != NULL) {
            if (tell(self, wait_unlink(entry->sides[side].first)) < 0) {
                PyErr_WriteUnraisable((PyObject *)self);
            }
        }
    }
    for (unsigned side = 0; side < SIDES; side++) {
        if (handles[side] != NULL) {
            corolla_handle_cancel((corolla_handle *)handles[side]);
            Py_DECREF(handles[side]);
        }
    }
    Py_XDECREF(file);
    Py_XDECREF(kept);
}

/* ---- Doubts -------------------------------------------------------------------------------- */

/* That a wait finds the watch of the one before it rests on the socket object, which is still the same. Nearly always so
 * is the descriptor; but os.dup2() may have put another file there, or sock.__init__(fileno=) another number into the
 * object. Asking the kernel each time would cost what keeping the watch has saved; so it is asked about those that have
 * waited for a while in vain, once in each such wait. */
#define LONGEST_FAITH (50L * 1000 * 1000) /* ns */

static int settle_doubts(corolla_watch *watch, unsigned events);

/* Sees that the doubts are looked at in a while. By a descriptor, since a timer of the reactor's would have every poll
 * set an alarm in the kernel, which costs more than what it is for. 0, or -1 when they cannot be. */
static int
arm_doubts(LoopObject *self)
{
    const struct itimerspec in_a_while = {.it_value = {.tv_nsec = LONGEST_FAITH}};
    if (self->doubts_fd < 0) {
        int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
        if (fd < 0) {
            return -1;
        }
        corolla_watch_init(&self->doubts_watch, settle_doubts);
        if (corolla_watch_start(&self->head.core.reactor, &self->doubts_watch, fd, COROLLA_READABLE) < 0) {
            close(fd);
            return -1;
        }
        self->doubts_fd = fd;
    }
    if (!self->doubts_armed && timerfd_settime(self->doubts_fd, 0, &in_a_while, NULL) < 0) {
        return -1;
    }
    self->doubts_armed = true;
    return 0;
}

/* A wait begins with the watch that is there. 0, or -1 when it has to be looked at now. */
static int
entry_doubt(Entry *entry)
{
    LoopObject *self = entry->loop;
    entry->waits++;
    if (entry->doubted) {
        return 0;
    }
    if (arm_doubts(self) < 0) {
        return -1;
    }
    entry->doubted = true;
    entry->doubted_at = entry->waits;
    entry->after = self->doubts;
    self->doubts = entry;
    return 0;
}

static int
settle_doubts(corolla_watch *watch, unsigned events)
{
    (void)events;
    LoopObject *self = (LoopObject *)((char *)watch - offsetof(LoopObject, doubts_watch));
    Entry *doubts = self->doubts;
    uint64_t count;
    if (read(watch->fd, &count, sizeof count) != (ssize_t)sizeof count && errno != EAGAIN) {
        corolla_watch_stop(watch); /* closed behind our back, and the number may be another's: another one is made */
        self->doubts_fd = -1;
    }
    self->doubts_armed = false;
    self->doubts = NULL;
    corolla_core_leave_task(&self->head.core);
    while (doubts != NULL) {
        Entry *entry = doubts;
        doubts = entry->after;
        entry->doubted = false;
        if (entry->watch.reactor == NULL || entry->watch.idle || entry_interest(entry) == 0) {
            continue; /* nobody waits */
        }
        /* Where it is another wait than the one that was doubted, the same again, of this one. */
        bool later = entry->waits != entry->doubted_at && entry_doubt(entry) == 0;
        if (!later && !corolla_watch_alive(&entry->watch)) {
            entry_forget(entry);
        }
    }
    return 0;
}

/* Sees that event is watched besides what is already. owner: a weak reference to a socket, stolen, or NULL. 0, or -1 with
 * an exception. */
static int
entry_watch(Entry *entry, unsigned event, PyObject *owner)
{
    /* The same socket object, and so the same descriptor, as when the kernel was asked last. */
    bool known = owner != NULL && owner == entry->kept && entry->watch.reactor != NULL;
    unsigned edge = owner != NULL ? entry_edge(entry, event) : 0;
    PyObject *old = entry->kept;
    entry->kept = owner;
    if (known && (entry->watch.interest & event) != 0 && (entry->watch.interest & COROLLA_EDGE) == edge) {
        known = entry_doubt(entry) == 0;
        if (known) {
            entry->watch.idle = false;
            Py_DECREF(old);
            return 0;
        }
    }
    Py_XDECREF(old);
    /* Somebody is there already: is it the same descriptor still, or one that was given the number? */
    if (!known && (entry->watch.reactor == NULL ? entry_interest(entry) != 0 : !corolla_watch_alive(&entry->watch))) {
        corolla_core *core = &entry->loop->head.core;
        entry_forget(entry);
        if (corolla_core_check_closed(core) < 0) {
            return -1; /* what was dropped has closed the loop, and the entry is no more */
        }
    }
    unsigned wanted = entry_interest(entry) | event | edge;
    entry->watch.idle = false;
    int rc = entry->watch.reactor != NULL
                 ? corolla_watch_modify(&entry->watch, wanted)
                 : corolla_watch_start(&entry->loop->head.core.reactor, &entry->watch, entry->fd, wanted);
    if (rc == 0) {
        return 0;
    }
    if (rc == -EEXIST) {
        PyErr_Format(PyExc_RuntimeError, "File descriptor %d is in use by this loop already", entry->fd);
    }
    else {
        errno = -rc;
        PyErr_SetFromErrno(PyExc_OSError);
    }
    return -1;
}

/* Somebody left: watches no more than is asked for. To be called last, for it may run other people's code. */
static void
entry_relax(Entry *entry)
{
    unsigned wanted = entry_interest(entry);
    if (wanted == 0) {
        corolla_watch_stop(&entry->watch);
    }
    else if (entry->watch.reactor != NULL && corolla_watch_modify(&entry->watch, wanted | entry_edge(entry, 0)) < 0) {
        entry_forget(entry);
    }
}

/* A wait was served: if that was the last and its socket is known, it will likely wait again, and the watch stays. */
static void
entry_keep(Entry *entry)
{
    unsigned wanted = entry_interest(entry);
    unsigned kept = entry->watch.interest & COROLLA_READABLE; /* writable is what a socket is nearly always */
    if (entry->kept == NULL || kept == 0) {
        entry_relax(entry);
        return;
    }
    entry->watch.idle = wanted == 0;
    entry->served = true;
    if (corolla_watch_modify(&entry->watch, wanted | kept | entry_edge(entry, 0)) < 0) {
        entry_forget(entry);
    }
}

/* ---- What is ready ------------------------------------------------------------------------- */

static int
entry_ready(corolla_watch *watch, unsigned events)
{
    Entry *entry = (Entry *)watch;
    LoopObject *self = entry->loop;
    PyObject *futures[SIDES] = {NULL, NULL}, *handles[SIDES] = {NULL, NULL}, *dropped[SIDES] = {NULL, NULL};
    bool unwanted = false;
    for (unsigned i = 0; i < SIDES; i++) {
        Side *side = &entry->sides[i];
        if ((events & (side_event[i] | COROLLA_HANGUP)) == 0) {
            continue;
        }
        unwanted |= side->first == NULL && side->handle == NULL; /* a watch that was kept for too long */
        if (side->first != NULL) {
            futures[i] = wait_unlink(side->first);
        }
        if (side->handle != NULL && ((corolla_handle *)side->handle)->cancelled) {
            dropped[i] = side->handle;
            side->handle = NULL;
        }
        handles[i] = Py_XNewRef(side->handle);
    }
    bool early = unwanted && entry->served;
    entry->served = false;
    if ((unwanted && !early) || dropped[READING] != NULL || dropped[WRITING] != NULL) {
        entry_relax(entry);
    }
    else if (futures[READING] != NULL || futures[WRITING] != NULL) {
        entry_keep(entry);
    }
    /* From here on the entry is not looked at. A handle that was replaced or removed meanwhile is cancelled: the event
     * was not for its successor. */
    int rc = 0;
    for (unsigned i = 0; i < SIDES; i++) {
        if (futures[i] != NULL && tell(self, futures[i]) < 0) {
            rc = -1;
        }
    }
    for (unsigned i = 0; i < SIDES; i++) {
        if (handles[i] != NULL && rc == 0 && !((corolla_handle *)handles[i])->cancelled) {
            rc = corolla_handle_run((corolla_handle *)handles[i]);
        }
    }
    PyObject *exc = rc < 0 ? PyErr_GetRaisedException() : NULL;
    for (unsigned i = 0; i < SIDES; i++) {
        Py_XDECREF(handles[i]);
        Py_XDECREF(dropped[i]);
    }
    if (exc != NULL) {
        PyErr_SetRaisedException(exc);
    }
    return rc;
}

/* ---- Waits --------------------------------------------------------------------------------- */

/* RuntimeError if a transport of the loop uses the descriptor. 0 or -1. */
static int
check_no_transport(LoopObject *self, int fd)
{
    if (corolla_transport_at(&self->head.core, fd) == NULL) {
        return 0;
    }
    PyObject *shown = PyLong_FromLong(fd);
    int rc = shown == NULL ? -1 : loop_check_no_transport(self, fd, shown);
    Py_XDECREF(shown);
    return rc;
}

int
loop_wait_start(LoopObject *self, loop_wait *wait, int fd, unsigned event, PyObject *owner)
{
    corolla_core *core = &self->head.core;
    if (fd < 0) {
        PyErr_Format(PyExc_ValueError, "Invalid file descriptor: %d", fd);
        return -1;
    }
    PyObject *future = corolla_future_new(core);
    PyObject *known = future == NULL || owner == NULL ? NULL : PyWeakref_NewRef(owner, NULL);
    Entry *entry = NULL;
    /* Last, for a collection may run anybody's code. */
    if (future != NULL && (owner == NULL) == (known == NULL) && corolla_core_check_closed(core) == 0 &&
        check_no_transport(self, fd) == 0) {
        entry = entry_get(self, fd);
    }
    if (entry == NULL) {
        Py_XDECREF(known);
    }
    if (entry == NULL || entry_watch(entry, event, known) < 0) {
        Py_XDECREF(future);
        return -1;
    }
    wait->side = event == COROLLA_READABLE ? READING : WRITING;
    Side *side = &entry->sides[wait->side];
    wait->entry = entry;
    wait->future = future;
    wait->next = NULL;
    wait->prev = side->last;
    if (side->last != NULL) {
        side->last->next = wait;
    }
    else {
        side->first = wait;
    }
    side->last = wait;
    return 0;
}

void
loop_wait_stop(loop_wait *wait)
{
    Entry *entry = wait->entry;
    if (entry == NULL) {
        return;
    }
    PyObject *exc = PyErr_GetRaisedException();
    PyObject *future = wait_unlink(wait);
    entry_relax(entry);
    Py_DECREF(future);
    if (exc != NULL) {
        PyErr_SetRaisedException(exc);
    }
}

size_t *
loop_read_hint(LoopObject *self, int fd)
{
    Entry *entry = entry_find(self, fd);
    return entry == NULL ? NULL : &entry->read_hint;
}

/* ---- Handles ------------------------------------------------------------------------------- */

static PyObject *
add_handle(PyObject *loop, const corolla_signature *sig, unsigned side, PyObject *const *args, Py_ssize_t nargs,
           PyObject *kwnames)
{
    LoopObject *self = (LoopObject *)loop;
    corolla_core *core = loop_core(loop);
    PyObject *out[2], *const *rest;
    Py_ssize_t count;
    if (loop_unpack_call(sig, args, nargs, kwnames, out, &rest, &count) < 0) {
        return NULL;
    }
    int fd = loop_fileno(out[0]);
    if (fd < 0) {
        return NULL;
    }
    PyObject *handle = corolla_handle_new(core, out[1], rest, count, NULL);
    Entry *entry = NULL;
    /* Only now: making the handle may have run anybody's code. */
    if (handle != NULL && loop_check(loop) == 0 && loop_check_no_transport(self, fd, out[0]) == 0) {
        entry = entry_get(self, fd);
    }
    if (entry == NULL || entry_watch(entry, side_event[side], NULL) < 0) {
        Py_XDECREF(handle);
        return NULL;
    }
    PyObject *old = entry->sides[side].handle, *old_file = entry->file;
    entry->sides[side].handle = handle;
    entry->file = PyLong_Check(out[0]) ? NULL : Py_NewRef(out[0]);
    if (old != NULL) {
        corolla_handle_cancel((corolla_handle *)old);
        Py_DECREF(old);
    }
    Py_XDECREF(old_file);
    Py_RETURN_NONE;
}

static PyObject *
remove_handle(PyObject *loop, const corolla_signature *sig, unsigned side, PyObject *const *args, Py_ssize_t nargs,
              PyObject *kwnames)
{
    LoopObject *self = (LoopObject *)loop;
    Entry *entry;
    PyObject *obj;
    if (corolla_unpack(sig, args, nargs, kwnames, &obj) < 0) {
        return NULL;
    }
    if (!loop_core(loop)->ready) {
        loop_check(loop);
        return NULL;
    }
    int fd = fileno_of(obj);
    if (fd < 0) {
        if (PyErr_Occurred()) {
            return NULL;
        }
        entry = entry_find_closed(self, obj);
        if (entry == NULL && !loop_core(loop)->closed) {
            PyErr_SetString(PyExc_ValueError, "Invalid file descriptor: -1");
            return NULL;
        }
    }
    else {
        if (loop_check_no_transport(self, fd, obj) < 0) {
            return NULL;
        }
        entry = entry_find(self, fd);
    }
    if (entry == NULL || entry->sides[side].handle == NULL) {
        Py_RETURN_FALSE;
    }
    PyObject *handle = entry->sides[side].handle, *file = NULL;
    entry->sides[side].handle = NULL;
    if (entry->sides[READING].handle == NULL && entry->sides[WRITING].handle == NULL) {
        file = entry->file;
        entry->file = NULL;
    }
    entry_relax(entry);
    corolla_handle_cancel((corolla_handle *)handle);
    Py_DECREF(handle);
    Py_XDECREF(file);
    Py_RETURN_TRUE;
}

/* ---- Life ---------------------------------------------------------------------------------- */

int
loop_readers_traverse(LoopObject *self, visitproc visit, void *arg)
{
    for (size_t i = 0; i < self->reader_count; i++) {
        Entry *entry = self->readers[i];
        if (entry == NULL) {
            continue;
        }
        Py_VISIT(entry->file);
        Py_VISIT(entry->kept);
        for (unsigned side = 0; side < SIDES; side++) {
            Py_VISIT(entry->sides[side].handle);
            for (loop_wait *wait = entry->sides[side].first; wait != NULL; wait = wait->next) {
                Py_VISIT(wait->future);
            }
        }
    }
    return 0;
}

/* Lets go of all that is in an entry and of the entry. */
static void
entry_free(Entry *entry)
{
    corolla_watch_stop(&entry->watch);
    for (unsigned i = 0; i < SIDES; i++) {
        Side *side = &entry->sides[i];
        while (side->first != NULL) {
            Py_DECREF(wait_unlink(side->first));
        }
        PyObject *handle = side->handle;
        side->handle = NULL;
        if (handle != NULL) {
            corolla_handle_cancel((corolla_handle *)handle);
            Py_DECREF(handle);
        }
    }
    Py_CLEAR(entry->file);
    Py_CLEAR(entry->kept);
    PyMem_Free(entry);
}

static void
doubts_close(LoopObject *self)
{
    self->doubts = NULL;
    self->doubts_armed = false;
    if (self->doubts_fd >= 0) {
        /* Closed behind our back, the number may be another's by now. In a forked child the kernel is not asked. */
        bool ours = corolla_core_is_inherited(&self->head.core) || corolla_watch_alive(&self->doubts_watch);
        corolla_watch_stop(&self->doubts_watch);
        if (ours) {
            close(self->doubts_fd);
        }
        self->doubts_fd = -1;
    }
}

void
loop_readers_close(LoopObject *self)
{
    /* What is dropped may run finalizers: they find a loop without readers. */
    Entry **table = self->readers;
    size_t count = self->reader_count;
    doubts_close(self);
    self->readers = NULL;
    self->reader_count = 0;
    for (size_t i = 0; i < count; i++) {
        if (table[i] != NULL) {
            entry_free(table[i]);
        }
    }
    PyMem_Free(table);
}

/* ---- Methods ------------------------------------------------------------------------------- */

static const char *const add_names[] = {"fd", "callback", NULL};
static const corolla_signature add_reader_sig = {"add_reader", add_names, 2, 2, NULL};
static const corolla_signature add_writer_sig = {"add_writer", add_names, 2, 2, NULL};
static const char *const remove_names[] = {"fd", NULL};
static const corolla_signature remove_reader_sig = {"remove_reader", remove_names, 1, 1, NULL};
static const corolla_signature remove_writer_sig = {"remove_writer", remove_names, 1, 1, NULL};

PyDoc_STRVAR(add_reader_doc, "add_reader($self, fd, callback, *args)\n--\n\n"
                             "Call callback(*args) whenever fd can be read from, until remove_reader().\n\n"
                             "fd: a number, or an object with fileno(). A second call replaces the callback.");

static PyObject *
loop_add_reader(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    return add_handle(self, &add_reader_sig, READING, args, nargs, kwnames);
}

PyDoc_STRVAR(add_writer_doc, "add_writer($self, fd, callback, *args)\n--\n\n"
                             "Call callback(*args) whenever fd can be written to, until remove_writer().\n\n"
                             "fd: a number, or an object with fileno(). A second call replaces the callback.");

static PyObject *
loop_add_writer(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    return add_handle(self, &add_writer_sig, WRITING, args, nargs, kwnames);
}

PyDoc_STRVAR(remove_reader_doc, "remove_reader($self, fd)\n--\n\n"
                                "Stop what add_reader() began. True if there was something to stop.");

static PyObject *
loop_remove_reader(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    return remove_handle(self, &remove_reader_sig, READING, args, nargs, kwnames);
}

PyDoc_STRVAR(remove_writer_doc, "remove_writer($self, fd)\n--\n\n"
                                "Stop what add_writer() began. True if there was something to stop.");

static PyObject *
loop_remove_writer(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    return remove_handle(self, &remove_writer_sig, WRITING, args, nargs, kwnames);
}

PyMethodDef corolla_loop_reader_methods[] = {
    {"add_reader", (PyCFunction)(void (*)(void))loop_add_reader, METH_FASTCALL | METH_KEYWORDS, add_reader_doc},
    {"add_writer", (PyCFunction)(void (*)(void))loop_add_writer, METH_FASTCALL | METH_KEYWORDS, add_writer_doc},
    {"remove_reader", (PyCFunction)(void (*)(void))loop_remove_reader, METH_FASTCALL | METH_KEYWORDS,
     remove_reader_doc},
    {"remove_writer", (PyCFunction)(void (*)(void))loop_remove_writer, METH_FASTCALL | METH_KEYWORDS,
     remove_writer_doc},
    {NULL, NULL, 0, NULL},
};
