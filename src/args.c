#include "args.h"

#include <string.h>

static int
check_counts(const corolla_signature *sig, Py_ssize_t nargs)
{
    if (nargs > sig->positional) {
        PyErr_Format(PyExc_TypeError, "%s() takes at most %d positional argument%s (%zd given)", sig->function,
                     sig->positional, sig->positional == 1 ? "" : "s", nargs);
        return -1;
    }
    return 0;
}

static int
place_keyword(const corolla_signature *sig, PyObject *name, PyObject *value, PyObject **out)
{
    if (!PyUnicode_Check(name)) {
        PyErr_Format(PyExc_TypeError, "%s() keywords must be strings", sig->function);
        return -1;
    }
    for (int i = 0; sig->names[i] != NULL; i++) {
        if (PyUnicode_CompareWithASCIIString(name, sig->names[i]) == 0) {
            if (out[i] != NULL) {
                PyErr_Format(PyExc_TypeError, "%s() got multiple values for argument '%U'", sig->function, name);
                return -1;
            }
            out[i] = value;
            return 0;
        }
    }
    PyErr_Format(PyExc_TypeError, "%s() got an unexpected keyword argument '%U'", sig->function, name);
    return -1;
}

static int
check_missing(const corolla_signature *sig, PyObject **out)
{
    for (int i = 0; i < sig->required; i++) {
        if (out[i] == NULL) {
            PyErr_Format(PyExc_TypeError, "%s() missing required argument: '%s'", sig->function, sig->names[i]);
            return -1;
        }
    }
    for (int k = 0; sig->needed != NULL && sig->needed[k] != NULL; k++) {
        for (int i = 0; sig->names[i] != NULL; i++) {
            if (out[i] == NULL && strcmp(sig->names[i], sig->needed[k]) == 0) {
                PyErr_Format(PyExc_TypeError, "%s() missing required keyword-only argument: '%s'", sig->function,
                             sig->names[i]);
                return -1;
            }
        }
    }
    return 0;
}

static void
clear_out(const corolla_signature *sig, PyObject **out)
{
    for (int i = 0; sig->names[i] != NULL; i++) {
        out[i] = NULL;
    }
}

int
corolla_unpack(const corolla_signature *sig, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames, PyObject **out)
{
    if (kwnames == NULL && nargs > 0 && nargs == sig->positional && sig->names[nargs] == NULL) {
        for (Py_ssize_t i = 0; i < nargs; i++) { /* all there are, by position: transport.write(data) */
            out[i] = args[i];
        }
        return 0;
    }
    clear_out(sig, out);
    if (check_counts(sig, nargs) < 0) {
        return -1;
    }
    for (Py_ssize_t i = 0; i < nargs; i++) {
        out[i] = args[i];
    }
    Py_ssize_t keywords = kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames);
    for (Py_ssize_t i = 0; i < keywords; i++) {
        if (place_keyword(sig, PyTuple_GET_ITEM(kwnames, i), args[nargs + i], out) < 0) {
            return -1;
        }
    }
    return check_missing(sig, out);
}

PyObject *
corolla_unpack_one(const char *function, const char *name, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    const char *const names[] = {name, NULL};
    const corolla_signature sig = {function, names, 1, 1, NULL};
    PyObject *given;
    return corolla_unpack(&sig, args, nargs, kwnames, &given) < 0 ? NULL : given;
}

int
corolla_unpack_tuple(const corolla_signature *sig, PyObject *args, PyObject *kwargs, PyObject **out)
{
    clear_out(sig, out);
    if (check_counts(sig, PyTuple_GET_SIZE(args)) < 0) {
        return -1;
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(args); i++) {
        out[i] = PyTuple_GET_ITEM(args, i);
    }
    PyObject *name, *value;
    Py_ssize_t at = 0;
    while (kwargs != NULL && PyDict_Next(kwargs, &at, &name, &value)) {
        if (place_keyword(sig, name, value, out) < 0) {
            return -1;
        }
    }
    return check_missing(sig, out);
}
