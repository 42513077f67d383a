/* What locks, events, conditions, semaphores and barriers have in common. */
#include "../scheduler/special.h"
#include "lock.h"

/* ---- Life -------------------------------------------------------------------------------- */

PyObject *
corolla_sync_tp_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    (void)args;
    (void)kwargs;
    corolla_state *state = corolla_state_of_type(type);
    PyObject *self = state == NULL ? NULL : type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    ((corolla_sync *)self)->state = state;
    corolla_state_hold(state);
    return self;
}

int
corolla_sync_traverse(PyObject *self, visitproc visit, void *arg)
{
    corolla_sync *sync = (corolla_sync *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(sync->dict);
    int rc = corolla_binding_traverse(&sync->binding, visit, arg);
    return rc != 0 ? rc : corolla_waitlist_traverse(&sync->waiters, visit, arg);
}

int
corolla_sync_clear(PyObject *self)
{
    corolla_sync *sync = (corolla_sync *)self;
    corolla_waitlist_clear(&sync->waiters);
    corolla_binding_clear(&sync->binding);
    Py_CLEAR(sync->dict);
    return 0;
}

void
corolla_sync_bury(PyObject *self)
{
    corolla_sync *sync = (corolla_sync *)self;
    corolla_state *state = sync->state;
    PyTypeObject *type = Py_TYPE(self);
    if (sync->weakrefs != NULL) {
        PyObject_ClearWeakRefs(self);
    }
    (void)corolla_sync_clear(self);
    type->tp_free(self);
    Py_DECREF(type);
    corolla_state_drop(state);
}

void
corolla_sync_tp_dealloc(PyObject *self)
{
    PyObject_GC_UnTrack(self);
    corolla_sync_bury(self);
}

/* ---- As Python sees it ------------------------------------------------------------------- */

PyObject *
corolla_sync_repr_of(PyObject *self, PyObject *extra)
{
    PyObject *plain = extra == NULL ? NULL : PyBaseObject_Type.tp_repr(self);
    PyObject *inner = plain == NULL ? NULL : PyUnicode_Substring(plain, 1, PyUnicode_GET_LENGTH(plain) - 1);
    PyObject *whole = inner == NULL ? NULL : PyUnicode_FromFormat("<%U [%U]>", inner, extra);
    Py_XDECREF(inner);
    Py_XDECREF(plain);
    Py_XDECREF(extra);
    return whole;
}

PyObject *
corolla_sync_repr(PyObject *self, PyObject *extra)
{
    Py_ssize_t waiters = extra == NULL ? 0 : corolla_waitlist_count(&((corolla_sync *)self)->waiters);
    if (waiters < 0) {
        Py_DECREF(extra);
        return NULL;
    }
    if (waiters > 0) {
        Py_SETREF(extra, PyUnicode_FromFormat("%U, waiters:%zd", extra, waiters));
    }
    return corolla_sync_repr_of(self, extra);
}

PyObject *
corolla_sync_get_loop(PyObject *self, PyObject *unused)
{
    (void)unused;
    corolla_sync *sync = (corolla_sync *)self;
    if (corolla_binding_bind(sync->state, &sync->binding, self) < 0) {
        return NULL;
    }
    return Py_NewRef(sync->binding.loop);
}

PyObject *
corolla_sync_get_loop_attr(PyObject *self, void *unused)
{
    (void)unused;
    PyObject *loop = ((corolla_sync *)self)->binding.loop;
    return Py_NewRef(loop != NULL ? loop : Py_None);
}

/* Programs take a lock from one loop to the next by setting _loop to None. */
int
corolla_sync_set_loop_attr(PyObject *self, PyObject *value, void *unused)
{
    (void)unused;
    corolla_sync *sync = (corolla_sync *)self;
    PyObject *old = sync->binding.loop;
    bool none = value == NULL || value == Py_None;
    sync->binding.loop = none ? NULL : Py_NewRef(value);
    sync->binding.core = none ? NULL : corolla_core_of(sync->state, value);
    Py_XDECREF(old);
    return 0;
}

PyObject *
corolla_sync_get_waiters(PyObject *self, void *unused)
{
    (void)unused;
    corolla_sync *sync = (corolla_sync *)self;
    return corolla_waitlist_show(sync->state, &sync->waiters);
}

int
corolla_sync_set_waiters(PyObject *self, PyObject *value, void *unused)
{
    (void)unused;
    if (value == NULL) {
        PyErr_SetString(PyExc_AttributeError, "cannot delete attribute");
        return -1;
    }
    corolla_waitlist_replace(&((corolla_sync *)self)->waiters, value);
    return 0;
}

int
corolla_sync_set_flag(PyObject *value, bool *flag)
{
    if (value == NULL) {
        PyErr_SetString(PyExc_AttributeError, "cannot delete attribute");
        return -1;
    }
    int truth = PyObject_IsTrue(value);
    if (truth < 0) {
        return -1;
    }
    *flag = truth;
    return 0;
}

PyMemberDef corolla_sync_members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(corolla_sync, weakrefs), READONLY, NULL},
    {"__dictoffset__", T_PYSSIZET, offsetof(corolla_sync, dict), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

/* ---- Coroutines -------------------------------------------------------------------------- */

int
corolla_sync_call_traverse(void *data, visitproc visit, void *arg)
{
    corolla_sync_call *call = data;
    Py_VISIT(call->self);
    Py_VISIT(call->waiting);
    Py_VISIT(call->extra);
    Py_VISIT(call->raised);
    return 0;
}

void
corolla_sync_call_clear(void *data)
{
    corolla_sync_call *call = data;
    Py_CLEAR(call->waiting);
    Py_CLEAR(call->extra);
    Py_CLEAR(call->raised);
    Py_CLEAR(call->self);
}

PyObject *
corolla_sync_coro(PyObject *self, const corolla_coro_spec *spec)
{
    corolla_coro *co = corolla_coro_new(((corolla_sync *)self)->state, spec);
    if (co != NULL) {
        ((corolla_sync_call *)corolla_coro_state(co))->self = Py_NewRef(self);
    }
    return (PyObject *)co;
}

int
corolla_sync_new_future(corolla_sync_call *call)
{
    corolla_sync *sync = (corolla_sync *)call->self;
    if (corolla_binding_bind(sync->state, &sync->binding, call->self) < 0) {
        return -1;
    }
    call->waiting = corolla_binding_future(sync->state, &sync->binding);
    return call->waiting == NULL ? -1 : 0;
}

int
corolla_sync_line_up(corolla_sync_call *call)
{
    corolla_sync *sync = (corolla_sync *)call->self;
    return corolla_sync_new_future(call) < 0 ? -1 : corolla_waitlist_push(sync->state, &sync->waiters, call->waiting);
}

int
corolla_sync_step_out(corolla_sync_call *call)
{
    corolla_sync *sync = (corolla_sync *)call->self;
    return corolla_waitlist_remove(sync->state, &sync->waiters, call->waiting);
}

int
corolla_sync_check_exit(Py_ssize_t nargs)
{
    if (nargs != 3) {
        PyErr_Format(PyExc_TypeError, "__aexit__() takes exactly 3 arguments (%zd given)", nargs);
        return -1;
    }
    return 0;
}

int
corolla_sync_raise_again(PyObject *raised, int rc)
{
    if (raised == NULL) {
        return rc;
    }
    if (rc >= 0) {
        PyErr_SetRaisedException(raised);
        return rc;
    }
    PyObject *newer = PyErr_GetRaisedException();
    PyObject *context = PyException_GetContext(newer);
    Py_XDECREF(context);
    if (context == NULL && newer != raised) {
        PyException_SetContext(newer, raised);
    }
    else {
        Py_DECREF(raised);
    }
    PyErr_SetRaisedException(newer);
    return rc;
}

/* ---- async with, by methods of others ------------------------------------------------------ */

static corolla_step
enter_step(corolla_coro *co, PyObject *value)
{
    corolla_sync_call *call = corolla_coro_state(co);

    COROLLA_BEGIN(co);

    call->waiting = PyObject_CallMethodNoArgs(call->self, co->state->s.acquire);
    if (call->waiting == NULL) {
        return COROLLA_RAISE;
    }
    COROLLA_AWAIT(co, call->waiting);
    return value == NULL ? COROLLA_RAISE : corolla_return(co, Py_NewRef(Py_None));

    COROLLA_END(co);
}

static corolla_step
exit_step(corolla_coro *co, PyObject *value)
{
    (void)value;
    corolla_sync_call *call = corolla_coro_state(co);
    PyObject *done = PyObject_CallMethodNoArgs(call->self, co->state->s.release);
    if (done == NULL) {
        return COROLLA_RAISE;
    }
    Py_DECREF(done);
    return corolla_return(co, Py_NewRef(Py_None));
}

const corolla_coro_spec corolla_sync_enter_spec = COROLLA_SYNC_SPEC("__aenter__", "__aenter__", enter_step);
const corolla_coro_spec corolla_sync_exit_spec = COROLLA_SYNC_SPEC("__aexit__", "__aexit__", exit_step);

/* ---- The types ----------------------------------------------------------------------------- */

/* A new type in *slot and in the module. 0 or -1. */
static int
add_type(PyObject *module, corolla_state *state, PyTypeObject **slot, PyType_Spec *spec, PyTypeObject *base)
{
    *slot = (PyTypeObject *)PyType_FromModuleAndSpec(module, spec, (PyObject *)base);
    PyObject *name = *slot == NULL ? NULL : PyType_GetName(*slot);
    /* Said again, so that messages of the interpreter call it "Lock", as they do asyncio's. */
    int rc = name == NULL ? -1 : PyObject_SetAttr((PyObject *)*slot, state->s.__name__, name);
    Py_XDECREF(name);
    return rc < 0 ? -1 : PyModule_AddType(module, *slot);
}

int
corolla_sync_init(PyObject *module, corolla_state *state)
{
    if (add_type(module, state, &state->lock_type, &corolla_lock_spec, NULL) < 0 ||
        add_type(module, state, &state->event_type, &corolla_event_spec, NULL) < 0 ||
        add_type(module, state, &state->condition_type, &corolla_condition_spec, NULL) < 0 ||
        add_type(module, state, &state->barrier_type, &corolla_barrier_spec, NULL) < 0 ||
        add_type(module, state, &state->semaphore_type, &corolla_semaphore_spec, NULL) < 0 ||
        add_type(module, state, &state->bounded_semaphore_type, &corolla_bounded_semaphore_spec,
                 state->semaphore_type) < 0) {
        return -1;
    }
    if (corolla_quick_with(state, state->lock_type, corolla_lock_quick_enter, corolla_lock_quick_exit) < 0 ||
        corolla_quick_with(state, state->condition_type, corolla_condition_quick_enter, corolla_condition_quick_exit) <
            0 ||
        corolla_quick_with(state, state->semaphore_type, corolla_semaphore_quick_enter, corolla_semaphore_quick_exit) <
            0) {
        return -1;
    }
    return 0;
}
