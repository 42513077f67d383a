/* Event: a flag that tasks wait for. */
#include "sync.h"

typedef struct {
    corolla_sync sync;
    bool value;
} EventObject;

static EventObject *
event_of(PyObject *self)
{
    return (EventObject *)self;
}

/* ---- Methods ----------------------------------------------------------------------------------- */

PyDoc_STRVAR(is_set_doc, "is_set($self, /)\n--\n\nReturn whether the flag is set.");

static PyObject *
event_is_set(PyObject *self, PyObject *unused)
{
    (void)unused;
    return PyBool_FromLong(event_of(self)->value);
}

PyDoc_STRVAR(set_doc, "set($self, /)\n--\n\n"
                      "Set the flag and wake everybody who waits for it. Specified by asyncio.Event.set().");

static PyObject *
event_set(PyObject *self, PyObject *unused)
{
    (void)unused;
    EventObject *event = event_of(self);
    if (!event->value) {
        event->value = true;
        if (corolla_waitlist_wake(event->sync.state, &event->sync.waiters, PY_SSIZE_T_MAX, Py_True) < 0) {
            return NULL;
        }
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(clear_doc, "clear($self, /)\n--\n\nReset the flag: from now on, wait() waits.");

static PyObject *
event_clear(PyObject *self, PyObject *unused)
{
    (void)unused;
    event_of(self)->value = false;
    Py_RETURN_NONE;
}

static corolla_step
wait_step(corolla_coro *co, PyObject *value)
{
    corolla_sync_call *call = corolla_coro_state(co);

    COROLLA_BEGIN(co);

    if (!event_of(call->self)->value) {
        if (corolla_sync_line_up(call) < 0) {
            return COROLLA_RAISE;
        }
        COROLLA_AWAIT(co, call->waiting);
        if (corolla_sync_step_out(call) < 0 || value == NULL) {
            return COROLLA_RAISE;
        }
    }
    return corolla_return(co, Py_NewRef(Py_True));

    COROLLA_END(co);
}

static const corolla_coro_spec wait_spec = COROLLA_SYNC_SPEC("wait", "Event.wait", wait_step);

PyDoc_STRVAR(wait_doc, "wait($self, /)\n--\n\n"
                       "Coroutine: wait until the flag is set, and return True.\n\n"
                       "Raises RuntimeError if it has to wait and the event is bound to another loop. Specified by\n"
                       "asyncio.Event.wait().");

static PyObject *
event_wait(PyObject *self, PyObject *unused)
{
    (void)unused;
    return corolla_sync_coro(self, &wait_spec);
}

/* ---- The type ---------------------------------------------------------------------------------- */

static int
event_tp_init(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static const char *const names[] = {NULL};
    static const corolla_signature sig = {"Event.__init__", names, 0, 0, NULL};
    if (corolla_unpack_tuple(&sig, args, kwargs, NULL) < 0) {
        return -1;
    }
    event_of(self)->value = false;
    corolla_waitlist_replace(&event_of(self)->sync.waiters, Py_None);
    return 0;
}

static PyObject *
event_tp_repr(PyObject *self)
{
    return corolla_sync_repr(self, PyUnicode_FromString(event_of(self)->value ? "set" : "unset"));
}

static PyObject *
get_value(PyObject *self, void *unused)
{
    (void)unused;
    return PyBool_FromLong(event_of(self)->value);
}

static int
set_value(PyObject *self, PyObject *value, void *unused)
{
    (void)unused;
    return corolla_sync_set_flag(value, &event_of(self)->value);
}

static PyMethodDef event_methods[] = {
    {"is_set", event_is_set, METH_NOARGS, is_set_doc},
    {"set", event_set, METH_NOARGS, set_doc},
    {"clear", event_clear, METH_NOARGS, clear_doc},
    {"wait", event_wait, METH_NOARGS, wait_doc},
    COROLLA_SYNC_GET_LOOP,
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef event_getset[] = {
    COROLLA_SYNC_GETSET,
    COROLLA_SYNC_GETSET_WAITERS,
    {"_value", get_value, set_value, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyDoc_STRVAR(event_doc, "Event()\n--\n\n"
                        "A flag that the tasks of one event loop wait for. Not safe to use from several threads.\n\n"
                        "It is not set at first. Specified by asyncio.Event.");

static PyType_Slot event_slots[] = {
    {Py_tp_doc, (void *)event_doc},
    {Py_tp_new, corolla_sync_tp_new},
    {Py_tp_init, event_tp_init},
    {Py_tp_dealloc, corolla_sync_tp_dealloc},
    {Py_tp_traverse, corolla_sync_traverse},
    {Py_tp_clear, corolla_sync_clear},
    {Py_tp_repr, event_tp_repr},
    {Py_tp_methods, event_methods},
    {Py_tp_getset, event_getset},
    {Py_tp_members, corolla_sync_members},
    {0, NULL},
};

PyType_Spec corolla_event_spec = {
    .name = "corolla.Event",
    .basicsize = sizeof(EventObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE,
    .slots = event_slots,
};
