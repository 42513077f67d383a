/* Inside the room: what locks, events, conditions, semaphores and barriers have in common. */
#ifndef COROLLA_SYNC_H
#define COROLLA_SYNC_H

#include "primitives.h"
#include "waitlist.h"

/* Each begins like this. All zero bytes but the state is one that nobody waits for. */
typedef struct corolla_sync {
    PyObject_HEAD
    PyObject *dict;          /* owned, or NULL */
    PyObject *weakrefs;      /* borrowed */
    corolla_state *state;    /* borrowed */
    corolla_binding binding; /* of those who wait */
    corolla_waitlist waiters;
} corolla_sync;

PyObject *corolla_sync_tp_new(PyTypeObject *type, PyObject *args, PyObject *kwargs);
int corolla_sync_traverse(PyObject *self, visitproc visit, void *arg);
int corolla_sync_clear(PyObject *self);
/* The end of a deallocator: the object is untracked, and what its own fields own is gone. */
void corolla_sync_bury(PyObject *self);
void corolla_sync_tp_dealloc(PyObject *self); /* for a type that owns nothing else */

/* <corolla.Lock object at 0x... [extra, waiters:1]>. Steals extra (NULL: gives NULL). New reference or NULL. */
PyObject *corolla_sync_repr(PyObject *self, PyObject *extra);
/* The same without those who wait. */
PyObject *corolla_sync_repr_of(PyObject *self, PyObject *extra);

PyObject *corolla_sync_get_loop(PyObject *self, PyObject *unused); /* the method _get_loop() */
PyObject *corolla_sync_get_loop_attr(PyObject *self, void *unused);
int corolla_sync_set_loop_attr(PyObject *self, PyObject *value, void *unused);
PyObject *corolla_sync_get_waiters(PyObject *self, void *unused);
int corolla_sync_set_waiters(PyObject *self, PyObject *value, void *unused);

/* For the setter of an attribute that is true or false. 0 or -1. */
int corolla_sync_set_flag(PyObject *value, bool *flag);

extern PyMemberDef corolla_sync_members[];

#define COROLLA_SYNC_GET_LOOP                                                                         \
    {                                                                                                 \
        "_get_loop", corolla_sync_get_loop, METH_NOARGS,                                              \
            "_get_loop($self, /)\n--\n\nReturn the loop it is bound to, from now on the running one." \
    }
#define COROLLA_SYNC_GETSET                                                                                        \
    {"__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict, NULL, NULL},                                    \
    {                                                                                                              \
        "_loop", corolla_sync_get_loop_attr, corolla_sync_set_loop_attr, "The loop it is bound to, or None.", NULL \
    }
#define COROLLA_SYNC_GETSET_WAITERS                                                                               \
    {                                                                                                             \
        "_waiters", corolla_sync_get_waiters, corolla_sync_set_waiters, "A deque of the futures that wait.", NULL \
    }

/* Exactly that type, with no attribute of its own: nobody has replaced its methods. */
static inline bool
corolla_sync_is_plain(PyObject *self, PyTypeObject *type)
{
    if (!Py_IS_TYPE(self, type)) {
        return false; /* and perhaps none of ours at all */
    }
    PyObject *dict = ((corolla_sync *)self)->dict;
    return dict == NULL || PyDict_GET_SIZE(dict) == 0;
}

/* The others; lock.h has its own. */
extern PyType_Spec corolla_event_spec, corolla_condition_spec, corolla_semaphore_spec, corolla_bounded_semaphore_spec,
    corolla_barrier_spec;

/* ---- Its coroutines ------------------------------------------------------------------------ */

/* The state of each. */
typedef struct corolla_sync_call {
    PyObject *self;    /* owned */
    PyObject *waiting; /* owned: the future in the line, or the coroutine that is awaited; or NULL */
    PyObject *extra;   /* owned, or NULL: what else it was called with */
    PyObject *raised;  /* owned, or NULL: what is to be raised when all is done */
    Py_ssize_t index;
} corolla_sync_call;

int corolla_sync_call_traverse(void *data, visitproc visit, void *arg);
void corolla_sync_call_clear(void *data);

#define COROLLA_SYNC_SPEC(text, long_text, body)                                                    \
    {                                                                                               \
        .name = (text), .qualname = (long_text), .size = sizeof(corolla_sync_call), .step = (body), \
        .traverse = corolla_sync_call_traverse, .clear = corolla_sync_call_clear,                   \
    }

/* A coroutine about self. New reference or NULL. */
PyObject *corolla_sync_coro(PyObject *self, const corolla_coro_spec *spec);
/* Makes a future, call->waiting, on the running loop. 0 or -1. */
int corolla_sync_new_future(corolla_sync_call *call);
/* The same, and puts it at the end of the line. 0 or -1. */
int corolla_sync_line_up(corolla_sync_call *call);
/* Takes it out. Keeps an exception being raised, unless it fails. 0 or -1. */
int corolla_sync_step_out(corolla_sync_call *call);

/* What awaiting __aenter__() and __aexit__() does when it need not wait: scheduler/special.h. */
int corolla_lock_quick_enter(PyObject *self);
int corolla_lock_quick_exit(PyObject *self);
int corolla_condition_quick_enter(PyObject *self);
int corolla_condition_quick_exit(PyObject *self);
int corolla_semaphore_quick_enter(PyObject *self);
int corolla_semaphore_quick_exit(PyObject *self);

/* __aenter__() and __aexit__() by the object's own acquire() and release(), whoever's they are. */
extern const corolla_coro_spec corolla_sync_enter_spec, corolla_sync_exit_spec;

/* __aexit__() takes three arguments: 0, or -1 with TypeError. */
int corolla_sync_check_exit(Py_ssize_t nargs);

/* What was raised (new reference, may be NULL) is raised again after rc: with rc < 0 the newer error stays, and gets
 * the older for its context. Steals raised. Gives rc. */
int corolla_sync_raise_again(PyObject *raised, int rc);

#endif
