/* Queue, PriorityQueue and LifoQueue as Python sees them. What they do is in queue.c. */
#include <stddef.h>
#include <string.h>

#include "queue.h"

static corolla_queue *
queue_of(PyObject *self)
{
    return (corolla_queue *)self;
}

/* ---- repr() -------------------------------------------------------------------------------- */

/* Steals part; NULL is passed on. Appends it to *text, which NULL means an error has happened. */
static void
append_part(PyObject **text, PyObject *part)
{
    if (*text == NULL || part == NULL) {
        Py_XDECREF(part);
        Py_CLEAR(*text);
        return;
    }
    PyUnicode_AppendAndDel(text, part);
}

static void
append_count(PyObject **text, const char *format, Py_ssize_t count)
{
    if (count < 0) {
        Py_CLEAR(*text);
    }
    else if (count > 0) {
        append_part(text, PyUnicode_FromFormat(format, count));
    }
}

PyObject *
corolla_queue_format(PyObject *self, PyObject *unused)
{
    (void)unused;
    corolla_queue *queue = queue_of(self);
    if (corolla_queue_check(queue) < 0) {
        return NULL;
    }
    PyObject *text = PyUnicode_FromFormat("maxsize=%R", queue->maxsize);
    int empty = text == NULL ? -1 : corolla_queue_is_empty(queue);
    if (empty == 0) {
        PyObject *list = corolla_queue_list(queue);
        append_part(&text, list == NULL ? NULL : PyUnicode_FromFormat(" _queue=%R", list));
        Py_XDECREF(list);
    }
    else if (empty < 0) {
        Py_CLEAR(text);
    }
    append_count(&text, " _getters[%zd]", text == NULL ? 0 : corolla_waitlist_count(&queue->getters));
    append_count(&text, " _putters[%zd]", text == NULL ? 0 : corolla_waitlist_count(&queue->putters));
    append_count(&text, " tasks=%zd", queue->unfinished > 0 ? queue->unfinished : 0);
    if (queue->shut_down && text != NULL) {
        append_part(&text, PyUnicode_FromString(" shutdown"));
    }
    return text;
}

/* "<", the type's name, where it is if that is wanted, what _format() says, ">". */
static PyObject *
show(PyObject *self, bool with_address)
{
    corolla_queue *queue = queue_of(self);
    const char *dot = strrchr(Py_TYPE(self)->tp_name, '.');
    const char *name = dot != NULL ? dot + 1 : Py_TYPE(self)->tp_name;
    if (queue->maxsize == NULL) {
        return PyUnicode_FromFormat("<%s not initialized>", name);
    }
    PyObject *format = queue->own & QUEUE_OWN_FORMAT ? PyObject_CallMethodNoArgs(self, queue->state->s._format)
                                                     : corolla_queue_format(self, NULL);
    if (format == NULL) {
        return NULL;
    }
    PyObject *text = with_address ? PyUnicode_FromFormat("<%s at %p %S>", name, (void *)self, format)
                                  : PyUnicode_FromFormat("<%s %S>", name, format);
    Py_DECREF(format);
    return text;
}

static PyObject *
queue_repr(PyObject *self)
{
    return show(self, true);
}

static PyObject *
queue_str(PyObject *self)
{
    return show(self, false);
}

/* ---- Attributes ---------------------------------------------------------------------------- */

static int
no_delete(PyObject *value)
{
    if (value == NULL) {
        PyErr_SetString(PyExc_AttributeError, "cannot delete attribute");
        return -1;
    }
    return 0;
}

static PyObject *
get_queue(PyObject *self, void *unused)
{
    (void)unused;
    return corolla_queue_show(queue_of(self));
}

static int
set_queue(PyObject *self, PyObject *value, void *unused)
{
    (void)unused;
    if (no_delete(value) < 0) {
        return -1;
    }
    corolla_queue_replace(queue_of(self), value);
    return 0;
}

static PyObject *
get_getters(PyObject *self, void *unused)
{
    (void)unused;
    return corolla_waitlist_show(queue_of(self)->state, &queue_of(self)->getters);
}

static PyObject *
get_putters(PyObject *self, void *unused)
{
    (void)unused;
    return corolla_waitlist_show(queue_of(self)->state, &queue_of(self)->putters);
}

static PyObject *
get_maxsize(PyObject *self, void *unused)
{
    (void)unused;
    return corolla_queue_check(queue_of(self)) < 0 ? NULL : Py_NewRef(queue_of(self)->maxsize);
}

static int
set_maxsize(PyObject *self, PyObject *value, void *unused)
{
    (void)unused;
    if (no_delete(value) < 0) {
        return -1;
    }
    queue_of(self)->limit = corolla_queue_limit(value);
    Py_XSETREF(queue_of(self)->maxsize, Py_NewRef(value));
    return 0;
}

static PyObject *
get_unfinished(PyObject *self, void *unused)
{
    (void)unused;
    return PyLong_FromSsize_t(queue_of(self)->unfinished);
}

static int
set_unfinished(PyObject *self, PyObject *value, void *unused)
{
    (void)unused;
    if (no_delete(value) < 0) {
        return -1;
    }
    Py_ssize_t count = PyLong_AsSsize_t(value);
    if (count == -1 && PyErr_Occurred()) {
        return -1;
    }
    queue_of(self)->unfinished = count;
    return 0;
}

static PyObject *
get_is_shutdown(PyObject *self, void *unused)
{
    (void)unused;
    return PyBool_FromLong(queue_of(self)->shut_down);
}

static int
set_is_shutdown(PyObject *self, PyObject *value, void *unused)
{
    (void)unused;
    int truth = no_delete(value) < 0 ? -1 : PyObject_IsTrue(value);
    if (truth < 0) {
        return -1;
    }
    queue_of(self)->shut_down = truth;
    return 0;
}

static PyObject *
get_loop(PyObject *self, void *unused)
{
    (void)unused;
    PyObject *loop = queue_of(self)->binding.loop;
    return Py_NewRef(loop != NULL ? loop : Py_None);
}

/* An event that goes along with the count of unfinished tasks from now on, for those who set or await it. */
static PyObject *
get_finished(PyObject *self, void *unused)
{
    (void)unused;
    corolla_queue *queue = queue_of(self);
    if (queue->finished == NULL) {
        PyObject *event = PyObject_CallNoArgs((PyObject *)queue->state->event_type);
        if (event == NULL) {
            return NULL;
        }
        if (queue->unfinished <= 0) {
            PyObject *done = PyObject_CallMethodNoArgs(event, queue->state->s.set);
            if (done == NULL) {
                Py_DECREF(event);
                return NULL;
            }
            Py_DECREF(done);
        }
        Py_XSETREF(queue->finished, event);
    }
    return Py_NewRef(queue->finished);
}

/* ---- Life ---------------------------------------------------------------------------------- */

/* Which of the three comes first among a type's bases. */
static queue_kind
find_kind(corolla_state *state, PyTypeObject *type)
{
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(type->tp_mro); i++) {
        PyObject *base = PyTuple_GET_ITEM(type->tp_mro, i);
        if (base == (PyObject *)state->priority_queue_type) {
            return QUEUE_PRIORITY;
        }
        if (base == (PyObject *)state->lifo_queue_type) {
            return QUEUE_LIFO;
        }
    }
    return QUEUE_FIFO;
}

static PyObject *
queue_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    (void)args;
    (void)kwargs;
    corolla_state *state = corolla_state_of_type(type);
    PyObject *self = state == NULL ? NULL : type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    corolla_queue *queue = queue_of(self);
    queue->state = state;
    corolla_state_hold(state);
    if (corolla_dict_for_cache(&queue->dict) < 0) {
        Py_DECREF(self);
        return NULL;
    }
    if (type != state->queue_type) {
        queue->kind = find_kind(state, type);
        bool ours = type == state->priority_queue_type || type == state->lifo_queue_type;
        if (!ours && corolla_queue_find_overrides(queue, type) < 0) {
            Py_DECREF(self);
            return NULL;
        }
    }
    return self;
}

static int
queue_init(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static const char *const names[] = {"maxsize", NULL};
    static const corolla_signature sig = {"Queue", names, 0, 1, NULL};
    corolla_queue *queue = queue_of(self);
    PyObject *maxsize = NULL;
    if (corolla_unpack_tuple(&sig, args, kwargs, &maxsize) < 0) {
        return -1;
    }
    maxsize = maxsize != NULL ? Py_NewRef(maxsize) : PyLong_FromLong(0);
    if (maxsize == NULL) {
        return -1;
    }
    queue->limit = corolla_queue_limit(maxsize);
    Py_XSETREF(queue->maxsize, maxsize);
    queue->unfinished = 0;
    corolla_waitlist_clear(&queue->getters);
    corolla_waitlist_clear(&queue->putters);
    corolla_waiters_clear(&queue->joiners);
    Py_CLEAR(queue->finished);
    corolla_queue_replace(queue, NULL);
    queue->shut_down = false;
    if (queue->own & QUEUE_OWN_INIT) {
        PyObject *done = PyObject_CallMethodOneArg(self, queue->state->s._init, queue->maxsize);
        if (done == NULL) {
            return -1;
        }
        Py_DECREF(done);
    }
    return 0;
}

static int
queue_traverse(PyObject *self, visitproc visit, void *arg)
{
    corolla_queue *queue = queue_of(self);
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(queue->dict);
    Py_VISIT(queue->maxsize);
    Py_VISIT(queue->finished);
    int rc = corolla_queue_items_traverse(&queue->items, visit, arg);
    if (rc == 0) {
        rc = corolla_binding_traverse(&queue->binding, visit, arg);
    }
    if (rc == 0) {
        rc = corolla_waitlist_traverse(&queue->getters, visit, arg);
    }
    if (rc == 0) {
        rc = corolla_waitlist_traverse(&queue->putters, visit, arg);
    }
    if (rc == 0) {
        rc = corolla_binding_traverse(&queue->joining, visit, arg);
    }
    return rc == 0 ? corolla_waiters_traverse(&queue->joiners, visit, arg) : rc;
}

static int
queue_clear(PyObject *self)
{
    corolla_queue *queue = queue_of(self);
    Py_CLEAR(queue->dict);
    Py_CLEAR(queue->maxsize);
    Py_CLEAR(queue->finished);
    corolla_queue_replace(queue, NULL);
    corolla_waitlist_clear(&queue->getters);
    corolla_waitlist_clear(&queue->putters);
    corolla_waiters_clear(&queue->joiners);
    corolla_binding_clear(&queue->binding);
    corolla_binding_clear(&queue->joining);
    return 0;
}

static void
queue_dealloc(PyObject *self)
{
    corolla_queue *queue = queue_of(self);
    corolla_state *state = queue->state;
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    if (queue->weakrefs != NULL) {
        PyObject_ClearWeakRefs(self);
    }
    Py_TRASHCAN_BEGIN(self, queue_dealloc) queue_clear(self);
    type->tp_free(self);
    Py_DECREF(type);
    corolla_state_drop(state);
    Py_TRASHCAN_END
}

/* ---- The types ----------------------------------------------------------------------------- */

static PyGetSetDef queue_getset[] = {
    {"__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict, NULL, NULL},
    {"maxsize", get_maxsize, NULL, "How many items fit into the queue; 0 or less: any number.", NULL},
    {"_maxsize", get_maxsize, set_maxsize, NULL, NULL},
    {"_queue", get_queue, set_queue, "What holds the items: a deque, or a list.", NULL},
    {"_getters", get_getters, NULL, "A deque of the futures that get() waits on.", NULL},
    {"_putters", get_putters, NULL, "A deque of the futures that put() waits on.", NULL},
    {"_unfinished_tasks", get_unfinished, set_unfinished, NULL, NULL},
    {"_finished", get_finished, NULL, "An asyncio.Event that is set while no task is unfinished.", NULL},
    {"_loop", get_loop, NULL, NULL, NULL},
    {"_is_shutdown", get_is_shutdown, set_is_shutdown, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef queue_members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(corolla_queue, weakrefs), READONLY, NULL},
    {"__dictoffset__", T_PYSSIZET, offsetof(corolla_queue, dict), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

PyDoc_STRVAR(
    queue_doc,
    "Queue(maxsize=0)\n--\n\n"
    "A first in, first out queue for tasks of one loop.\n\n"
    "maxsize: how many items fit, put() waits while there are so many; 0 or less: any number. It belongs to the\n"
    "loop that runs when something has to wait for the first time. A subclass may replace _init(maxsize),\n"
    "_put(item) and _get(). Specified by asyncio.Queue.");

static PyType_Slot queue_slots[] = {
    {Py_tp_doc, (void *)queue_doc}, {Py_tp_new, queue_new},           {Py_tp_init, queue_init},
    {Py_tp_dealloc, queue_dealloc}, {Py_tp_traverse, queue_traverse}, {Py_tp_clear, queue_clear},
    {Py_tp_repr, queue_repr},       {Py_tp_str, queue_str},           {Py_tp_methods, corolla_queue_methods},
    {Py_tp_getset, queue_getset},   {Py_tp_members, queue_members},   {0, NULL},
};

static PyType_Spec queue_spec = {
    .name = "corolla.Queue",
    .basicsize = sizeof(corolla_queue),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE,
    .slots = queue_slots,
};

/* The others inherit everything but their name: what they do differently depends on the kind. */
#define KIND_SLOTS(doc)                                                                               \
    {                                                                                                 \
        {Py_tp_doc, (void *)(doc)}, {Py_tp_dealloc, queue_dealloc}, {Py_tp_traverse, queue_traverse}, \
            {Py_tp_clear, queue_clear}, {0, NULL},                                                    \
    }

PyDoc_STRVAR(priority_queue_doc, "PriorityQueue(maxsize=0)\n--\n\n"
                                 "A Queue that gives its least item first. Specified by asyncio.PriorityQueue.\n\n"
                                 "A comparison that raises makes put() or get() raise; no item is lost by it.");

static PyType_Slot priority_queue_slots[] = KIND_SLOTS(priority_queue_doc);

static PyType_Spec priority_queue_spec = {
    .name = "corolla.PriorityQueue",
    .basicsize = sizeof(corolla_queue),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE,
    .slots = priority_queue_slots,
};

PyDoc_STRVAR(lifo_queue_doc, "LifoQueue(maxsize=0)\n--\n\n"
                             "A Queue that gives its newest item first. Specified by asyncio.LifoQueue.");

static PyType_Slot lifo_queue_slots[] = KIND_SLOTS(lifo_queue_doc);

static PyType_Spec lifo_queue_spec = {
    .name = "corolla.LifoQueue",
    .basicsize = sizeof(corolla_queue),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE,
    .slots = lifo_queue_slots,
};

/* asyncio's own QueueShutDown from 3.13 on. 0 or -1. */
static int
find_shut_down(corolla_state *state)
{
    state->QueueShutDown = PyImport_ImportModuleAttrString("asyncio", "QueueShutDown");
    if (state->QueueShutDown == NULL && PyErr_ExceptionMatches(PyExc_AttributeError)) {
        PyErr_Clear();
        state->QueueShutDown = PyErr_NewExceptionWithDoc(
            "corolla.QueueShutDown", "Raised by put() and get() of a queue that has been shut down.", NULL, NULL);
    }
    return state->QueueShutDown == NULL ? -1 : 0;
}

/* Makes a type and adds it to the module. 0 or -1. */
static int
add_type(PyObject *module, PyType_Spec *spec, PyTypeObject *base, PyTypeObject **type)
{
    *type = (PyTypeObject *)PyType_FromModuleAndSpec(module, spec, (PyObject *)base);
    return *type == NULL ? -1 : PyModule_AddType(module, *type);
}

int
corolla_queue_init(PyObject *module, corolla_state *state)
{
    if (find_shut_down(state) < 0 || PyModule_AddObjectRef(module, "QueueShutDown", state->QueueShutDown) < 0) {
        return -1;
    }
    if (add_type(module, &queue_spec, NULL, &state->queue_type) < 0 ||
        add_type(module, &priority_queue_spec, state->queue_type, &state->priority_queue_type) < 0) {
        return -1;
    }
    return add_type(module, &lifo_queue_spec, state->queue_type, &state->lifo_queue_type);
}
