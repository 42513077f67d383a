/* The addresses create_connection() tries: their order, their C form, and the words for their failures. */
#include "connect.h"

#include <errno.h>
#include <string.h>

struct connect_local {
    struct addrinfo info;
    struct sockaddr_storage addr;
};

void
attempts_clear(connect_attempts *attempts)
{
    PyMem_Free(attempts->targets);
    PyMem_Free(attempts->locals);
    PyMem_Free(attempts->bind_errors);
    attempts->bind_errors = NULL;
    attempts->targets = NULL;
    attempts->locals = NULL;
    attempts->local = NULL;
    attempts->count = 0;
    Py_CLEAR(attempts->infos);
    Py_CLEAR(attempts->local_infos);
}

int
attempts_set_infos(PyObject **infos, PyObject *found)
{
    PyObject *list = PySequence_List(found);
    if (list == NULL) {
        return -1;
    }
    if (PyList_GET_SIZE(list) == 0) {
        PyErr_SetString(PyExc_OSError, "getaddrinfo() returned empty list");
        goto fail;
    }
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(list); i++) {
        PyObject *info = PyList_GET_ITEM(list, i);
        if (!PyTuple_Check(info) || PyTuple_GET_SIZE(info) != 5) {
            PyErr_Format(PyExc_ValueError, "getaddrinfo() returned %R in place of a 5-tuple", info);
            goto fail;
        }
    }
    Py_XSETREF(*infos, list);
    return 0;
fail:
    Py_DECREF(list);
    return -1;
}

/* ---- Order ---------------------------------------------------------------------------------- */

/* The infos by family, in the order the families appear: a dict of lists. New reference or NULL. */
static PyObject *
group_by_family(PyObject *infos)
{
    PyObject *families = PyDict_New();
    for (Py_ssize_t i = 0; families != NULL && i < PyList_GET_SIZE(infos); i++) {
        PyObject *info = PyList_GET_ITEM(infos, i);
        PyObject *empty = PyList_New(0);
        PyObject *group = empty == NULL ? NULL : PyDict_SetDefault(families, PyTuple_GET_ITEM(info, 0), empty);
        if (group == NULL || PyList_Append(group, info) < 0) {
            Py_CLEAR(families);
        }
        Py_XDECREF(empty);
    }
    return families;
}

/* Moves the first of the group to the end of order. 1; 0 when there is none; -1. */
static int
take_first(PyObject *group, PyObject *order)
{
    if (PyList_GET_SIZE(group) == 0) {
        return 0;
    }
    if (PyList_Append(order, PyList_GET_ITEM(group, 0)) < 0 || PyList_SetSlice(group, 0, 1, NULL) < 0) {
        return -1;
    }
    return 1;
}

static int
interleave(PyObject **infos, Py_ssize_t first_family)
{
    PyObject *families = group_by_family(*infos);
    PyObject *groups = families == NULL ? NULL : PyDict_Values(families);
    PyObject *order = groups == NULL ? NULL : PyList_New(0);
    Py_XDECREF(families);
    int moved = order == NULL ? -1 : 1;
    for (Py_ssize_t i = 1; moved > 0 && i < first_family; i++) {
        moved = take_first(PyList_GET_ITEM(groups, 0), order);
    }
    while (moved >= 0 && PyList_GET_SIZE(order) < PyList_GET_SIZE(*infos)) {
        for (Py_ssize_t i = 0; moved >= 0 && i < PyList_GET_SIZE(groups); i++) {
            moved = take_first(PyList_GET_ITEM(groups, i), order);
        }
    }
    Py_XDECREF(groups);
    if (moved < 0) {
        Py_XDECREF(order);
        return -1;
    }
    Py_SETREF(*infos, order);
    return 0;
}

/* ---- C forms -------------------------------------------------------------------------------- */

static int
info_int(PyObject *info, Py_ssize_t i, int *out)
{
    return endpoint_parse_int(PyTuple_GET_ITEM(info, i), 0, out);
}

static int
make_targets(connect_attempts *attempts)
{
    size_t count = (size_t)PyList_GET_SIZE(attempts->infos);
    attempts->targets = PyMem_Calloc(count, sizeof *attempts->targets);
    if (attempts->targets == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    attempts->count = count;
    for (size_t i = 0; i < count; i++) {
        corolla_target *target = &attempts->targets[i];
        PyObject *info = PyList_GET_ITEM(attempts->infos, (Py_ssize_t)i);
        if (info_int(info, 0, &target->family) < 0 || info_int(info, 1, &target->type) < 0 ||
            info_int(info, 2, &target->protocol) < 0 ||
            corolla_address_from_python(PyTuple_GET_ITEM(info, 4), target->family, &target->addr, &target->addrlen) <
                0) {
            return -1;
        }
    }
    return 0;
}

static int
make_locals(connect_attempts *attempts)
{
    if (attempts->local_infos == NULL) {
        return 0;
    }
    size_t count = (size_t)PyList_GET_SIZE(attempts->local_infos);
    attempts->locals = PyMem_Calloc(count, sizeof *attempts->locals);
    attempts->bind_errors = PyMem_Calloc(count * attempts->count, sizeof *attempts->bind_errors);
    if (attempts->locals == NULL || attempts->bind_errors == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (size_t i = 0; i < attempts->count; i++) {
        attempts->targets[i].bind_errors = &attempts->bind_errors[i * count];
    }
    for (size_t i = 0; i < count; i++) {
        connect_local *local = &attempts->locals[i];
        PyObject *info = PyList_GET_ITEM(attempts->local_infos, (Py_ssize_t)i);
        if (info_int(info, 0, &local->info.ai_family) < 0 ||
            corolla_address_from_python(PyTuple_GET_ITEM(info, 4), local->info.ai_family, &local->addr,
                                        &local->info.ai_addrlen) < 0) {
            return -1;
        }
        local->info.ai_addr = (struct sockaddr *)&local->addr;
        local->info.ai_next = i + 1 < count ? &attempts->locals[i + 1].info : NULL;
    }
    attempts->local = &attempts->locals[0].info;
    return 0;
}

int
attempts_prepare(connect_attempts *attempts, Py_ssize_t first_family)
{
    if (first_family != 0 && interleave(&attempts->infos, first_family) < 0) {
        return -1;
    }
    return make_targets(attempts) < 0 || make_locals(attempts) < 0 ? -1 : 0;
}

/* ---- Failures ------------------------------------------------------------------------------- */

/* Steals message; OSError(err, message), or with err 0 OSError(message). New reference or NULL. */
static PyObject *
os_error(int err, PyObject *message)
{
    if (message == NULL) {
        return NULL;
    }
    PyObject *exc = err == 0 ? PyObject_CallOneArg(PyExc_OSError, message)
                             : PyObject_CallFunction(PyExc_OSError, "iO", err, message);
    Py_DECREF(message);
    return exc;
}

/* Whether the kernel says so after a while, not at once: asyncio's words differ. */
static bool
comes_later(int err)
{
    switch (err) {
    case ECONNREFUSED:
    case ECONNRESET:
    case ECONNABORTED:
    case ETIMEDOUT:
    case EHOSTUNREACH:
        return true;
    default:
        return false;
    }
}

static PyObject *
bind_error(connect_attempts *attempts, Py_ssize_t local, int err)
{
    PyObject *address = PyTuple_GET_ITEM(PyList_GET_ITEM(attempts->local_infos, local), 4);
    PyObject *text = PyUnicode_FromFormat("[errno %d] %s", err, strerror(err));
    PyObject *lower = text == NULL ? NULL : PyObject_CallMethod(text, "lower", NULL);
    Py_XDECREF(text);
    if (lower == NULL) {
        return NULL;
    }
    PyObject *message = PyUnicode_FromFormat("error while attempting to bind on address %R: %U", address, lower);
    Py_DECREF(lower);
    return os_error(err, message);
}

/* What the attempt itself ended with. New reference or NULL. */
static PyObject *
target_error(const corolla_target *target, PyObject *info)
{
    if (target->stage == COROLLA_AT_BIND) {
        return os_error(
            0, PyUnicode_FromFormat("no matching local address with family=%R found", PyTuple_GET_ITEM(info, 0)));
    }
    if (target->stage == COROLLA_AT_CONNECT && comes_later(-target->error)) {
        return os_error(-target->error, PyUnicode_FromFormat("Connect call failed %S", PyTuple_GET_ITEM(info, 4)));
    }
    return os_error(-target->error, PyUnicode_FromString(strerror(-target->error)));
}

/* Steals error. 0 or -1. */
static int
append_error(PyObject *errors, PyObject *error)
{
    int rc = error == NULL ? -1 : PyList_Append(errors, error);
    Py_XDECREF(error);
    return rc;
}

/* One for each local address that could not be bound to, and one for the attempt, if it came further than that. */
static int
append_errors(connect_attempts *attempts, size_t i, PyObject *errors)
{
    const corolla_target *target = &attempts->targets[i];
    Py_ssize_t locals = attempts->local_infos == NULL ? 0 : PyList_GET_SIZE(attempts->local_infos);
    for (Py_ssize_t j = 0; j < locals; j++) {
        if (target->bind_errors[j] != 0 && append_error(errors, bind_error(attempts, j, -target->bind_errors[j])) < 0) {
            return -1;
        }
    }
    if (target->error == 0 || (target->stage == COROLLA_AT_BIND && target->bind_index >= 0)) {
        return 0;
    }
    return append_error(errors, target_error(target, PyList_GET_ITEM(attempts->infos, (Py_ssize_t)i)));
}

/* The failures in the order of the targets. New reference or NULL. */
static PyObject *
list_errors(connect_attempts *attempts)
{
    PyObject *errors = PyList_New(0);
    for (size_t i = 0; errors != NULL && i < attempts->count; i++) {
        if (append_errors(attempts, i, errors) < 0) {
            Py_CLEAR(errors);
        }
    }
    return errors;
}

/* str() of each. New reference or NULL. */
static PyObject *
list_texts(PyObject *errors)
{
    PyObject *texts = PyList_New(0);
    for (Py_ssize_t i = 0; texts != NULL && i < PyList_GET_SIZE(errors); i++) {
        PyObject *text = PyObject_Str(PyList_GET_ITEM(errors, i));
        if (text == NULL || PyList_Append(texts, text) < 0) {
            Py_CLEAR(texts);
        }
        Py_XDECREF(text);
    }
    return texts;
}

static bool
all_equal(PyObject *texts)
{
    for (Py_ssize_t i = 1; i < PyList_GET_SIZE(texts); i++) {
        if (PyUnicode_Compare(PyList_GET_ITEM(texts, 0), PyList_GET_ITEM(texts, i)) != 0) {
            return false;
        }
    }
    return true;
}

static void
raise_group(PyObject *errors)
{
    PyObject *type = PyImport_ImportModuleAttrString("builtins", "ExceptionGroup");
    PyObject *group = type == NULL ? NULL : PyObject_CallFunction(type, "sO", "create_connection failed", errors);
    if (group != NULL) {
        PyErr_SetObject((PyObject *)Py_TYPE(group), group);
    }
    Py_XDECREF(type);
    Py_XDECREF(group);
}

/* One for all where they say the same, else one that says it all. */
static void
raise_combined(PyObject *errors)
{
    PyObject *texts = list_texts(errors);
    if (texts == NULL) {
        return;
    }
    PyObject *error = NULL;
    if (all_equal(texts)) {
        error = Py_NewRef(PyList_GET_ITEM(errors, 0));
    }
    else {
        PyObject *comma = PyUnicode_FromString(", ");
        PyObject *joined = comma == NULL ? NULL : PyUnicode_Join(comma, texts);
        if (joined != NULL) {
            error = os_error(0, PyUnicode_FromFormat("Multiple exceptions: %U", joined));
        }
        Py_XDECREF(comma);
        Py_XDECREF(joined);
    }
    if (error != NULL) {
        PyErr_SetObject((PyObject *)Py_TYPE(error), error);
        Py_DECREF(error);
    }
    Py_DECREF(texts);
}

void
attempts_raise(connect_attempts *attempts, bool all_errors)
{
    PyObject *errors = list_errors(attempts);
    if (errors == NULL) {
        return;
    }
    if (all_errors) {
        raise_group(errors);
    }
    else {
        raise_combined(errors);
    }
    Py_DECREF(errors);
}
