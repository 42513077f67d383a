/* The objects behind await.h. */
#include "await.h"

#include <string.h>

#include "callback.h"
#include "freelist.h"

/* ---- What throw() is given --------------------------------------------------------------- */

int
corolla_warn_throw(Py_ssize_t nargs)
{
#if PY_VERSION_HEX >= 0x030C0000
    if (nargs > 1) {
        return PyErr_WarnEx(PyExc_DeprecationWarning,
                            "the (type, exc, tb) signature of throw() is deprecated, use the single-arg signature "
                            "instead.",
                            1);
    }
#else
    (void)nargs;
#endif
    return 0;
}

int
corolla_set_thrown(PyObject *type, PyObject *value, PyObject *tb)
{
    if (value == Py_None) {
        value = NULL;
    }
    if (tb == Py_None) {
        tb = NULL;
    }
    if (tb != NULL && !PyTraceBack_Check(tb)) {
        PyErr_SetString(PyExc_TypeError, "throw() third argument must be a traceback");
        return -1;
    }
    PyObject *exc;
    if (PyExceptionInstance_Check(type)) {
        if (value != NULL) {
            PyErr_SetString(PyExc_TypeError, "instance exception may not have a separate value");
            return -1;
        }
        exc = Py_NewRef(type);
    }
    else if (PyExceptionClass_Check(type)) {
        if (value != NULL && PyObject_IsInstance(value, type) > 0) {
            exc = Py_NewRef(value);
        }
        else if (value == NULL) {
            exc = PyObject_CallNoArgs(type);
        }
        else if (PyTuple_Check(value)) {
            exc = PyObject_CallObject(type, value);
        }
        else {
            exc = PyObject_CallOneArg(type, value);
        }
        if (exc == NULL) {
            return -1;
        }
        if (!PyExceptionInstance_Check(exc)) {
            Py_DECREF(exc);
            PyErr_SetString(PyExc_TypeError, "exceptions must derive from BaseException");
            return -1;
        }
    }
    else {
        PyErr_Format(PyExc_TypeError, "exceptions must be classes or instances deriving from BaseException, not %s",
                     Py_TYPE(type)->tp_name);
        return -1;
    }
    if (tb != NULL && PyException_SetTraceback(exc, tb) < 0) {
        Py_DECREF(exc);
        return -1;
    }
    PyErr_SetRaisedException(exc);
    return 0;
}

/* ---- Making ------------------------------------------------------------------------------ */

/* Where a coroutine is made, as cr_origin has it: a tuple of (file, line, function), the innermost first. */
static PyObject *
find_origin(int depth)
{
    PyObject *list = PyList_New(0);
    PyFrameObject *frame = PyEval_GetFrame();
    Py_XINCREF(frame);
    for (int i = 0; list != NULL && frame != NULL && i < depth; i++) {
        PyCodeObject *code = PyFrame_GetCode(frame);
        PyObject *entry = Py_BuildValue("OiO", code->co_filename, PyFrame_GetLineNumber(frame), code->co_name);
        Py_DECREF(code);
        if (entry == NULL || PyList_Append(list, entry) < 0) {
            Py_CLEAR(list);
        }
        Py_XDECREF(entry);
        PyFrameObject *back = PyFrame_GetBack(frame);
        Py_DECREF(frame);
        frame = back;
    }
    Py_XDECREF(frame);
    PyObject *origin = list == NULL ? NULL : PyList_AsTuple(list);
    Py_XDECREF(list);
    return origin;
}

/* States of up to so many words share one free list. They are cleared by chunks, of a size that compilers do in line;
 * most have one. */
enum { SMALL_WORDS = 16, CHUNK_WORDS = 8 };

corolla_coro *
corolla_coro_new(corolla_state *state, const corolla_coro_spec *spec)
{
    const size_t chunk = CHUNK_WORDS * sizeof(void *);
    size_t words = (spec->size + chunk - 1) / chunk * CHUNK_WORDS;
    freelist *list = &state->freelists->coros;
    int depth = PyThreadState_Get()->coroutine_origin_tracking_depth;
    corolla_coro *co;
    /* In debug mode none is used again, for tracemalloc takes memory that is to have been made where it first was. */
    if (words <= SMALL_WORDS && list->count > 0 && depth == 0) {
        co = (corolla_coro *)list->items[--list->count];
        corolla_revive((PyObject *)co, state->coroutine_type);
    }
    else {
        size_t room = words <= SMALL_WORDS ? SMALL_WORDS : words;
        co = PyObject_GC_NewVar(corolla_coro, state->coroutine_type, (Py_ssize_t)room);
        if (co == NULL) {
            return NULL;
        }
    }
    corolla_state_hold(state);
    memset((char *)co + sizeof(PyVarObject), 0, sizeof *co - sizeof(PyVarObject));
    for (size_t done = 0; done < words; done += CHUNK_WORDS) {
        memset(co->data + done, 0, chunk);
    }
    co->spec = spec;
    co->state = state;
    PyObject_GC_Track(co);
    if (depth > 0) {
        co->origin = find_origin(depth);
        if (co->origin == NULL) {
            co->finished = true; /* dropped without a warning */
            Py_DECREF(co);
            return NULL;
        }
    }
    return co;
}

corolla_step
corolla_return(corolla_coro *co, PyObject *value)
{
    if (value == NULL) {
        return COROLLA_RAISE;
    }
    Py_XSETREF(co->outcome, value);
    return COROLLA_RETURN;
}

void
corolla_coro_await(corolla_coro *co, PyObject *awaitable)
{
    Py_XSETREF(co->outcome, Py_NewRef(awaitable));
}

/* ---- Running ----------------------------------------------------------------------------- */

static void
coro_finish(corolla_coro *co)
{
    co->finished = true;
    co->running = false;
    Py_CLEAR(co->awaiting);
    if (co->spec->clear != NULL) {
        co->spec->clear(co->data);
    }
}

/* The iterator that `await obj` would iterate. New reference or NULL. */
static PyObject *
get_awaitable_iter(PyObject *obj)
{
    if (PyCoro_CheckExact(obj)) {
        PyObject *awaited = corolla_coroutine_begun(obj) ? PyObject_GetAttrString(obj, "cr_await") : Py_NewRef(Py_None);
        if (awaited == NULL || awaited != Py_None) {
            if (awaited != NULL) {
                PyErr_SetString(PyExc_RuntimeError, "coroutine is being awaited already");
            }
            Py_XDECREF(awaited);
            return NULL;
        }
        Py_DECREF(awaited);
        return Py_NewRef(obj);
    }
    if (corolla_is_generator_coroutine(obj)) {
        return Py_NewRef(obj);
    }
    PyAsyncMethods *async = Py_TYPE(obj)->tp_as_async;
    if (async == NULL || async->am_await == NULL) {
        PyErr_Format(PyExc_TypeError, "object %.100s can't be used in 'await' expression", Py_TYPE(obj)->tp_name);
        return NULL;
    }
    PyObject *iter = async->am_await(obj);
    if (iter != NULL && !PyIter_Check(iter) && !PyCoro_CheckExact(iter)) {
        PyErr_Format(PyExc_TypeError, "__await__() returned non-iterator of type '%.100s'", Py_TYPE(iter)->tp_name);
        Py_CLEAR(iter);
    }
    return iter;
}

/* Asks what is awaited whether it goes on. PYGEN_NEXT: *result is to be yielded; PYGEN_RETURN: its value;
 * PYGEN_ERROR: it raised. */
static PySendResult
poll_awaited(corolla_coro *co, PyObject *sent, PyObject **result)
{
    if (!co->direct) {
        return PyIter_Send(co->awaiting, sent, result);
    }
    corolla_future *fut = (corolla_future *)co->awaiting;
    *result = NULL;
    if (fut->status != COROLLA_PENDING) {
        *result = corolla_future_result((PyObject *)fut);
        return *result == NULL ? PYGEN_ERROR : PYGEN_RETURN;
    }
    if (fut->blocking) {
        PyErr_SetString(PyExc_RuntimeError, "await wasn't used with future");
        return PYGEN_ERROR;
    }
    fut->blocking = true;
    *result = Py_NewRef((PyObject *)fut);
    return PYGEN_NEXT;
}

/* Runs the body from where it is with value (borrowed; NULL: an exception is set) until it yields or ends. */
static PySendResult
coro_resume(corolla_coro *co, PyObject *value, PyObject **result)
{
    corolla_state *state = co->state;
    PyObject *held = NULL;
    *result = NULL;
    for (;;) {
        co->running = true;
        corolla_step step = co->spec->step(co, value);
        co->running = false;
        Py_CLEAR(held);
        switch (step) {
        case COROLLA_RAISE:
            coro_finish(co);
            return PYGEN_ERROR;
        case COROLLA_RETURN:
            *result = co->outcome;
            co->outcome = NULL;
            coro_finish(co);
            return PYGEN_RETURN;
        case COROLLA_YIELD:
            *result = Py_NewRef(Py_None);
            return PYGEN_NEXT;
        case COROLLA_SUSPEND:
            break;
        }
        PyObject *awaitable = co->outcome;
        co->outcome = NULL;
        co->direct = Py_IS_TYPE(awaitable, state->future_type) || Py_IS_TYPE(awaitable, state->task_type);
        if (co->direct) {
            co->awaiting = awaitable;
        }
        else {
            co->awaiting = get_awaitable_iter(awaitable);
            Py_DECREF(awaitable);
        }
        PySendResult sent = PYGEN_ERROR;
        if (co->awaiting != NULL) {
            co->running = true;
            sent = poll_awaited(co, Py_None, result);
            co->running = false;
        }
        if (sent == PYGEN_NEXT) {
            return PYGEN_NEXT;
        }
        Py_CLEAR(co->awaiting);
        value = held = *result;
        *result = NULL;
    }
}

static int
check_usable(corolla_coro *co)
{
    if (co->running) {
        PyErr_SetString(PyExc_ValueError, "coroutine already executing");
        return -1;
    }
    if (co->finished) {
        PyErr_SetString(PyExc_RuntimeError, "cannot reuse already awaited coroutine");
        return -1;
    }
    return 0;
}

static PySendResult
coro_am_send(PyObject *self, PyObject *sent, PyObject **result)
{
    corolla_coro *co = (corolla_coro *)self;
    *result = NULL;
    if (check_usable(co) < 0) {
        return PYGEN_ERROR;
    }
    if (!co->started) {
        if (sent != Py_None) {
            PyErr_SetString(PyExc_TypeError, "can't send non-None value to a just-started coroutine");
            return PYGEN_ERROR;
        }
        co->started = true;
        return coro_resume(co, Py_None, result);
    }
    if (co->awaiting == NULL) {
        return coro_resume(co, sent, result); /* after a bare yield */
    }
    co->running = true;
    PySendResult answer = poll_awaited(co, sent, result);
    co->running = false;
    if (answer == PYGEN_NEXT) {
        return PYGEN_NEXT;
    }
    Py_CLEAR(co->awaiting);
    PyObject *value = *result;
    answer = coro_resume(co, value, result);
    Py_XDECREF(value);
    return answer;
}

/* What send() and throw() give. */
static PyObject *
as_python(PySendResult sent, PyObject *result)
{
    if (sent == PYGEN_RETURN) {
        corolla_set_stop_iteration(result);
        return NULL;
    }
    return result;
}

static PyObject *
coro_iternext(PyObject *self)
{
    PyObject *result;
    if (coro_am_send(self, Py_None, &result) == PYGEN_RETURN) {
        corolla_end_iteration(((corolla_coro *)self)->state, result);
        return NULL;
    }
    return result;
}

static PyObject *
coro_send(PyObject *self, PyObject *value)
{
    PyObject *result;
    PySendResult sent = coro_am_send(self, value, &result);
    return as_python(sent, result);
}

/* Passes the exception being raised to what is awaited, if that is not a future of ours (those are just let
 * go). PYGEN_NEXT: it yields on; else value (new reference) or the exception it ended with. */
static PySendResult
throw_awaited(corolla_coro *co, PyObject **result)
{
    *result = NULL;
    PyObject *awaiting = co->awaiting;
    if (co->direct) {
        co->awaiting = NULL;
        Py_DECREF(awaiting);
        return PYGEN_ERROR;
    }
    PyObject *exc = PyErr_GetRaisedException();
    PyObject *method;
    bool closing = PyErr_GivenExceptionMatches(exc, PyExc_GeneratorExit);
    int found = PyObject_GetOptionalAttr(awaiting, closing ? co->state->s.close : co->state->s.throw, &method);
    if (found <= 0) {
        Py_CLEAR(co->awaiting);
        if (found == 0) {
            PyErr_SetRaisedException(exc);
        }
        else {
            Py_DECREF(exc);
        }
        return PYGEN_ERROR;
    }
    co->running = true;
    *result = closing ? PyObject_CallNoArgs(method) : PyObject_CallOneArg(method, exc);
    co->running = false;
    Py_DECREF(method);
    if (closing) {
        Py_CLEAR(co->awaiting);
        if (*result == NULL) {
            Py_DECREF(exc);
        }
        else {
            Py_CLEAR(*result);
            PyErr_SetRaisedException(exc);
        }
        return PYGEN_ERROR;
    }
    Py_DECREF(exc);
    if (*result != NULL) {
        return PYGEN_NEXT;
    }
    Py_CLEAR(co->awaiting);
    *result = corolla_fetch_stop_iteration();
    return *result != NULL ? PYGEN_RETURN : PYGEN_ERROR;
}

/* The exception being raised arrives where the body waits. */
static PyObject *
coro_throw_raised(corolla_coro *co)
{
    PyObject *result = NULL, *value = NULL;
    if (!co->started) {
        co->started = true;
        coro_finish(co);
        return NULL;
    }
    if (co->awaiting != NULL) {
        PySendResult answer = throw_awaited(co, &value);
        if (answer == PYGEN_NEXT) {
            return value;
        }
    }
    PySendResult sent = coro_resume(co, value, &result);
    Py_XDECREF(value);
    return as_python(sent, result);
}

static PyObject *
coro_throw(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    corolla_coro *co = (corolla_coro *)self;
    if (nargs < 1 || nargs > 3) {
        PyErr_Format(PyExc_TypeError, "throw() takes from 1 to 3 arguments (%zd given)", nargs);
        return NULL;
    }
    if (check_usable(co) < 0 || corolla_warn_throw(nargs) < 0 ||
        corolla_set_thrown(args[0], nargs > 1 ? args[1] : NULL, nargs > 2 ? args[2] : NULL) < 0) {
        return NULL;
    }
    if (co->running || co->finished) { /* by the warning, or by making the exception: code of others */
        PyErr_Clear();
        (void)check_usable(co);
        return NULL;
    }
    return coro_throw_raised(co);
}

static PyObject *
coro_close(PyObject *self, PyObject *unused)
{
    (void)unused;
    corolla_coro *co = (corolla_coro *)self;
    if (co->running) {
        PyErr_SetString(PyExc_ValueError, "coroutine already executing");
        return NULL;
    }
    if (co->finished) {
        Py_RETURN_NONE;
    }
    if (!co->started) {
        co->started = true;
        coro_finish(co);
        Py_RETURN_NONE;
    }
    PyErr_SetNone(PyExc_GeneratorExit);
    PyObject *result = coro_throw_raised(co);
    if (result != NULL) {
        Py_DECREF(result);
        PyErr_SetString(PyExc_RuntimeError, "coroutine ignored GeneratorExit");
        return NULL;
    }
    if (PyErr_ExceptionMatches(PyExc_GeneratorExit) || PyErr_ExceptionMatches(PyExc_StopIteration)) {
        PyErr_Clear();
        Py_RETURN_NONE;
    }
    return NULL;
}

static PyObject *
coro_await(PyObject *self)
{
    corolla_coro *co = (corolla_coro *)self;
    if (co->awaiting != NULL || (co->started && !co->finished)) {
        PyErr_SetString(PyExc_RuntimeError, "coroutine is being awaited already");
        return NULL;
    }
    return Py_NewRef(self);
}

/* ---- Life -------------------------------------------------------------------------------- */

static void
coro_finalize(PyObject *self)
{
    corolla_coro *co = (corolla_coro *)self;
    co->finalized = true;
    if (co->finished) {
        return;
    }
    PyObject *raised = PyErr_GetRaisedException();
    if (!co->started) {
        /* "coroutine '...' was never awaited", as for any other. */
        PyObject *done = PyObject_CallOneArg(co->state->warn_unawaited, self);
        if (done == NULL) {
            PyErr_WriteUnraisable(self);
        }
        Py_XDECREF(done);
        co->started = true;
        coro_finish(co);
    }
    else {
        PyObject *done = coro_close(self, NULL);
        if (done == NULL) {
            PyErr_WriteUnraisable(self);
        }
        Py_XDECREF(done);
    }
    if (raised != NULL) {
        PyErr_SetRaisedException(raised);
    }
}

static int
coro_traverse(PyObject *self, visitproc visit, void *arg)
{
    corolla_coro *co = (corolla_coro *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(co->awaiting);
    Py_VISIT(co->outcome);
    Py_VISIT(co->origin);
    if (co->spec->traverse != NULL) {
        return co->spec->traverse(co->data, visit, arg);
    }
    return 0;
}

static int
coro_clear(PyObject *self)
{
    corolla_coro *co = (corolla_coro *)self;
    Py_CLEAR(co->awaiting);
    Py_CLEAR(co->outcome);
    Py_CLEAR(co->origin);
    co->finished = true; /* nothing is left that it could go on with */
    if (co->spec->clear != NULL) {
        co->spec->clear(co->data);
    }
    return 0;
}

static void
coro_dealloc(PyObject *self)
{
    corolla_coro *co = (corolla_coro *)self;
    corolla_state *state = co->state;
    if (!co->finished && PyObject_CallFinalizerFromDealloc(self) < 0) {
        return;
    }
    PyObject_GC_UnTrack(self);
    if (co->weakrefs != NULL) {
        PyObject_ClearWeakRefs(self);
    }
    if (co->finished) {
        Py_CLEAR(co->origin); /* the rest went when it finished */
        Py_CLEAR(co->outcome);
    }
    else {
        coro_clear(self);
    }
    PyTypeObject *exact = Py_SIZE(self) == SMALL_WORDS ? state->coroutine_type : NULL;
    freelist_drop(state, &state->freelists->coros, exact, self, co->finalized);
}

/* ---- As Python sees it ------------------------------------------------------------------- */

static PyObject *
coro_repr(PyObject *self)
{
    return PyUnicode_FromFormat("<coroutine object %s at %p>", ((corolla_coro *)self)->spec->qualname, self);
}

static PyObject *
coro_get_name(PyObject *self, void *unused)
{
    (void)unused;
    return PyUnicode_FromString(((corolla_coro *)self)->spec->name);
}

static PyObject *
coro_get_qualname(PyObject *self, void *unused)
{
    (void)unused;
    return PyUnicode_FromString(((corolla_coro *)self)->spec->qualname);
}

static PyObject *
coro_get_await(PyObject *self, void *unused)
{
    (void)unused;
    corolla_coro *co = (corolla_coro *)self;
    return Py_NewRef(co->awaiting != NULL ? co->awaiting : Py_None);
}

static PyObject *
coro_get_running(PyObject *self, void *unused)
{
    (void)unused;
    return PyBool_FromLong(((corolla_coro *)self)->running);
}

static PyObject *
coro_get_suspended(PyObject *self, void *unused)
{
    (void)unused;
    corolla_coro *co = (corolla_coro *)self;
    return PyBool_FromLong(co->started && !co->running && !co->finished);
}

static PyObject *
coro_get_origin(PyObject *self, void *unused)
{
    (void)unused;
    corolla_coro *co = (corolla_coro *)self;
    return Py_NewRef(co->origin != NULL ? co->origin : Py_None);
}

static PyObject *
coro_get_none(PyObject *self, void *unused)
{
    (void)self;
    (void)unused;
    Py_RETURN_NONE;
}

/* __await__() called by name must give an iterator in full, which a coroutine is not: a wrapper of its own, as
 * CPython's coroutines have. `await` itself takes am_await and needs none. */
typedef struct {
    PyObject_HEAD
    PyObject *coro; /* owned */
} CoroWrapper;

static PyObject *
coro_dunder_await(PyObject *self, PyObject *unused)
{
    (void)unused;
    PyObject *coro = coro_await(self);
    if (coro == NULL) {
        return NULL;
    }
    CoroWrapper *wrapper = PyObject_GC_New(CoroWrapper, ((corolla_coro *)self)->state->coro_wrapper_type);
    if (wrapper == NULL) {
        Py_DECREF(coro);
        return NULL;
    }
    wrapper->coro = coro;
    PyObject_GC_Track(wrapper);
    return (PyObject *)wrapper;
}

static PySendResult
wrapper_am_send(PyObject *self, PyObject *value, PyObject **result)
{
    return coro_am_send(((CoroWrapper *)self)->coro, value, result);
}

static PyObject *
wrapper_next(PyObject *self)
{
    return coro_iternext(((CoroWrapper *)self)->coro);
}

static PyObject *
wrapper_send(PyObject *self, PyObject *value)
{
    return coro_send(((CoroWrapper *)self)->coro, value);
}

static PyObject *
wrapper_throw(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    return coro_throw(((CoroWrapper *)self)->coro, args, nargs);
}

static PyObject *
wrapper_close(PyObject *self, PyObject *unused)
{
    return coro_close(((CoroWrapper *)self)->coro, unused);
}

static int
wrapper_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(((CoroWrapper *)self)->coro);
    return 0;
}

static void
wrapper_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    Py_DECREF(((CoroWrapper *)self)->coro);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMethodDef wrapper_methods[] = {
    {"send", wrapper_send, METH_O, "send($self, value, /)\n--\n\nSee PEP 492."},
    {"throw", (PyCFunction)(void (*)(void))wrapper_throw, METH_FASTCALL,
     "throw($self, typ, val=None, tb=None, /)\n--\n\nSee PEP 492."},
    {"close", wrapper_close, METH_NOARGS, "close($self, /)\n--\n\nSee PEP 492."},
    {NULL, NULL, 0, NULL},
};

/* No tp_clear: the coroutine's own breaks any cycle. */
static PyType_Slot wrapper_slots[] = {
    {Py_tp_dealloc, wrapper_dealloc},
    {Py_tp_traverse, wrapper_traverse},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, wrapper_next},
    {Py_am_send, wrapper_am_send},
    {Py_tp_methods, wrapper_methods},
    {0, NULL},
};

PyType_Spec corolla_coro_wrapper_spec = {
    .name = "corolla._core.coroutine_wrapper",
    .basicsize = sizeof(CoroWrapper),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = wrapper_slots,
};

/* isinstance(coro, types.CoroutineType) and inspect.iscoroutine(coro) hold, as futures and tasks are asyncio's. */
static PyObject *
coro_get_class(PyObject *self, void *unused)
{
    (void)unused;
    return Py_NewRef(((corolla_coro *)self)->state->CoroutineType);
}

static PyMethodDef coro_methods[] = {
    {"__await__", coro_dunder_await, METH_NOARGS | METH_COEXIST, "__await__($self, /)\n--\n\nSee PEP 492."},
    {"send", coro_send, METH_O, "send($self, value, /)\n--\n\nRun to the next await. See PEP 492."},
    {"throw", (PyCFunction)(void (*)(void))coro_throw, METH_FASTCALL,
     "throw($self, typ, val=None, tb=None, /)\n--\n\nRaise an exception where it waits. See PEP 492."},
    {"close", coro_close, METH_NOARGS, "close($self, /)\n--\n\nRaise GeneratorExit where it waits. See PEP 492."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef coro_getset[] = {
    {"__class__", coro_get_class, NULL, NULL, NULL},
    {"__name__", coro_get_name, NULL, NULL, NULL},
    {"__qualname__", coro_get_qualname, NULL, NULL, NULL},
    {"cr_await", coro_get_await, NULL, "What it awaits, or None.", NULL},
    {"cr_running", coro_get_running, NULL, NULL, NULL},
    {"cr_suspended", coro_get_suspended, NULL, NULL, NULL},
    {"cr_frame", coro_get_none, NULL, "None: there is no Python frame.", NULL},
    {"cr_code", coro_get_none, NULL, "None: there is no Python code.", NULL},
    {"cr_origin", coro_get_origin, NULL, "Where it was made, or None.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef coro_members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(corolla_coro, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot coro_slots[] = {
    {Py_tp_doc, (void *)"A coroutine written in C (PEP 492)."},
    {Py_tp_dealloc, coro_dealloc},
    {Py_tp_finalize, coro_finalize},
    {Py_tp_traverse, coro_traverse},
    {Py_tp_clear, coro_clear},
    {Py_tp_repr, coro_repr},
    {Py_tp_iternext, coro_iternext},
    {Py_am_await, coro_await},
    {Py_am_send, coro_am_send},
    {Py_tp_methods, coro_methods},
    {Py_tp_getset, coro_getset},
    {Py_tp_members, coro_members},
    {0, NULL},
};

PyType_Spec corolla_coro_type_spec = {
    .name = "corolla._core.coroutine",
    .basicsize = sizeof(corolla_coro),
    .itemsize = sizeof(void *),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = coro_slots,
};
