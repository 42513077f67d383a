/* What differs between the CPython versions we support, 3.11 to 3.15, and nowhere else. */
#ifndef COROLLA_COMPAT_H
#define COROLLA_COMPAT_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdbool.h>
#include <structmember.h>

#if PY_VERSION_HEX < 0x030B0000
#error "corolla needs CPython 3.11 or later"
#endif

#if PY_VERSION_HEX < 0x030C0000
/* A new reference to the exception being raised, normalised and with its traceback set; clears the
 * indicator. NULL when there is none. */
static inline PyObject *
PyErr_GetRaisedException(void)
{
    PyObject *type, *value, *tb;
    PyErr_Fetch(&type, &value, &tb);
    if (type == NULL) {
        return NULL;
    }
    PyErr_NormalizeException(&type, &value, &tb);
    if (tb != NULL) {
        PyException_SetTraceback(value, tb);
    }
    Py_XDECREF(type);
    Py_XDECREF(tb);
    return value;
}

/* Steals exc. */
static inline void
PyErr_SetRaisedException(PyObject *exc)
{
    PyErr_Restore(Py_NewRef((PyObject *)Py_TYPE(exc)), exc, PyException_GetTraceback(exc));
}
#endif

#if PY_VERSION_HEX < 0x030D0000
/* 1 and a new reference, 0 and NULL, or -1 with an exception. */
static inline int
PyObject_GetOptionalAttr(PyObject *obj, PyObject *name, PyObject **result)
{
    *result = PyObject_GetAttr(obj, name);
    if (*result != NULL) {
        return 1;
    }
    if (PyErr_ExceptionMatches(PyExc_AttributeError)) {
        PyErr_Clear();
        return 0;
    }
    return -1;
}

/* 1 and a new reference, 0 and NULL when the object is gone, or -1 with an exception. */
static inline int
PyWeakref_GetRef(PyObject *ref, PyObject **result)
{
    PyObject *obj = PyWeakref_GetObject(ref);
    if (obj == NULL) {
        *result = NULL;
        return -1;
    }
    *result = obj == Py_None ? NULL : Py_NewRef(obj);
    return *result != NULL;
}

static inline int
PyDict_GetItemRef(PyObject *dict, PyObject *key, PyObject **result)
{
    *result = PyDict_GetItemWithError(dict, key);
    if (*result != NULL) {
        Py_INCREF(*result);
        return 1;
    }
    return PyErr_Occurred() ? -1 : 0;
}
#endif

/* Makes an object of memory that held one of exactly that type, as PyObject_Init() does without the calls. */
static inline void
corolla_revive(PyObject *self, PyTypeObject *type)
{
#if defined(Py_GIL_DISABLED) || defined(Py_TRACE_REFS) || defined(Py_REF_DEBUG)
    PyObject_Init(self, type);
#else
    Py_INCREF(type);
    Py_SET_REFCNT(self, 1);
#endif
}

/* Whether an object that is called can tell by its reference count that only its caller has it. From 3.14 on the
 * interpreter calls what is in a variable without a reference of its own. */
#if PY_VERSION_HEX < 0x030E0000 && !defined(Py_GIL_DISABLED)
#define COROLLA_CALLER_COUNTS 1
#else
#define COROLLA_CALLER_COUNTS 0
#endif

/* The context that is current in this thread: borrowed, NULL while it has none. */
static inline PyObject *
corolla_current_context(void)
{
    return PyThreadState_Get()->context;
}

#if PY_VERSION_HEX < 0x030E0000
static inline PyObject *
PyImport_ImportModuleAttrString(const char *module_name, const char *name)
{
    PyObject *module = PyImport_ImportModule(module_name);
    if (module == NULL) {
        return NULL;
    }
    PyObject *attr = PyObject_GetAttrString(module, name);
    Py_DECREF(module);
    return attr;
}
#endif

/* For objects with a __dict__ whose methods are called all the time: 3.11 caches the lookup of a method only where
 * there is no dict or one that exists already. *dict is a field of the object. 0 or -1. */
static inline int
corolla_dict_for_cache(PyObject **dict)
{
#if PY_VERSION_HEX < 0x030C0000
    *dict = PyDict_New();
    return *dict == NULL ? -1 : 0;
#else
    (void)dict;
    return 0;
#endif
}

/* Whether a coroutine of Python's may have run: false only for one that has not. */
static inline bool
corolla_coroutine_begun(PyObject *coro)
{
#if PY_VERSION_HEX >= 0x030E0000
    (void)coro;
    return true;
#elif PY_VERSION_HEX >= 0x030D0000
    return ((PyCoroObject *)coro)->cr_frame_state != -3;
#else
    return ((PyCoroObject *)coro)->cr_frame_state != -2;
#endif
}

/* A generator that types.coroutine() made awaitable. */
static inline bool
corolla_is_generator_coroutine(PyObject *obj)
{
    if (!PyGen_CheckExact(obj)) {
        return false;
    }
#if PY_VERSION_HEX >= 0x030C0000
    PyCodeObject *code = PyGen_GetCode((PyGenObject *)obj);
#else
    PyCodeObject *code = (PyCodeObject *)Py_NewRef((PyObject *)((PyGenObject *)obj)->gi_code);
#endif
    bool awaitable = code->co_flags & CO_ITERABLE_COROUTINE;
    Py_DECREF(code);
    return awaitable;
}

#endif
