/* The module, its state and its types, and nothing else. */
#include "state.h"

#include <string.h>

corolla_state *
corolla_state_of_module(PyObject *module)
{
    corolla_state **slot = (corolla_state **)PyModule_GetState(module);
    return slot == NULL ? NULL : *slot;
}

corolla_state *
corolla_state_of_type(PyTypeObject *type)
{
    PyObject *module = PyType_GetModuleByDef(type, &corolla_module);
    return module == NULL ? NULL : corolla_state_of_module(module);
}

int
corolla_add_methods(PyTypeObject *type, PyMethodDef *methods)
{
    for (PyMethodDef *def = methods; def->ml_name != NULL; def++) {
        PyObject *descr = PyDescr_NewMethod(type, def);
        if (descr == NULL) {
            return -1;
        }
        int rc = PyObject_SetAttrString((PyObject *)type, def->ml_name, descr);
        Py_DECREF(descr);
        if (rc < 0) {
            return -1;
        }
    }
    return 0;
}

static int
init_strings(corolla_state *state)
{
#define X(name)                                        \
    state->s.name = PyUnicode_InternFromString(#name); \
    if (state->s.name == NULL) {                       \
        return -1;                                     \
    }
    COROLLA_STRINGS(X)
#undef X
    return 0;
}

static int
init_imports(corolla_state *state)
{
#define X(name, from, attribute)                                    \
    state->name = PyImport_ImportModuleAttrString(from, attribute); \
    if (state->name == NULL) {                                      \
        return -1;                                                  \
    }
    COROLLA_IMPORTS(X)
#undef X
    return 0;
}

/* Every object of the state, once: what is visited is what is dropped. */
#define EACH_OBJECT(X)          \
    X(handle_type)              \
    X(timer_handle_type)        \
    X(future_type)              \
    X(task_type)                \
    X(future_iter_type)         \
    X(callback_type)            \
    X(coroutine_type)           \
    X(coro_wrapper_type)        \
    X(stop_type)                \
    X(special_type)             \
    X(bound_type)               \
    X(with_coroutine_type)      \
    X(eager_factory_type)       \
    X(async_function_type)      \
    X(async_code)               \
    X(current_tasks)            \
    X(swap_current)             \
    X(tcp_transport_type)       \
    X(unix_transport_type)      \
    X(server_type)              \
    X(read_pipe_type)           \
    X(write_pipe_type)          \
    X(datagram_endpoint_type)   \
    X(process_type)             \
    X(process_pipe_type)        \
    X(tls_transport_type)       \
    X(tls_protocol_type)        \
    X(tls_window_type)          \
    X(ssl_MemoryBIO)            \
    X(ssl_SSLObject)            \
    X(ssl_SSLWantReadError)     \
    X(ssl_SSLSyscallError)      \
    X(ssl_CertificateError)     \
    X(sendfile_protocol_type)   \
    X(sendfile_try_native)      \
    X(sendfile_fallback)        \
    X(sendfile_unsupported)     \
    X(stream_reader_type)       \
    X(stream_protocol_type)     \
    X(stream_writer_type)       \
    X(stream_type)              \
    X(stream_acceptor_type)     \
    X(stream_connecting_type)   \
    X(subprocess_protocol_type) \
    X(stream_process_type)      \
    X(socket_fileno)            \
    X(loop_base_type)           \
    X(loop_type)                \
    X(gather_type)              \
    X(lock_type)                \
    X(event_type)               \
    X(condition_type)           \
    X(semaphore_type)           \
    X(bounded_semaphore_type)   \
    X(barrier_type)             \
    X(queue_type)               \
    X(priority_queue_type)      \
    X(lifo_queue_type)          \
    X(QueueShutDown)            \
    X(timeout_type)             \
    X(as_completed_type)        \
    X(link_type)                \
    X(task_group_type)

/* An object that was here twice would be an enumerator twice: the collector must not visit any a second time. */
enum {
#define X(name) object_##name,
    EACH_OBJECT(X)
#undef X
        object_count
};

static int
quicken_types(corolla_state *state)
{
    PyObject *const objects[] = {
#define X(name) (PyObject *)state->name,
        EACH_OBJECT(X)
#undef X
    };
    for (size_t i = 0; i < object_count; i++) {
        if (objects[i] != NULL && PyType_Check(objects[i]) &&
            corolla_quicken_type(state, (PyTypeObject *)objects[i]) < 0) {
            return -1;
        }
    }
    return 0;
}

static int
module_exec(PyObject *module)
{
    corolla_state *state = PyMem_Calloc(1, sizeof *state);
    if (state == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    *(corolla_state **)PyModule_GetState(module) = state;
    state->module = module;
    state->living = 1;
    if (init_strings(state) < 0 || init_imports(state) < 0) {
        return -1;
    }
    if (corolla_scheduler_init(module, state) < 0 || corolla_primitives_init(module, state) < 0 ||
        corolla_transports_init(module, state) < 0 || corolla_streams_init(module, state) < 0 ||
        corolla_loop_init(module, state) < 0 || corolla_mark_async_names(module, state) < 0 ||
        quicken_types(state) < 0) {
        return -1;
    }
    return 0;
}

/* There is no m_clear: the collector breaks the cycle of module and types at the types, and until the last
 * object is gone its methods find the state whole. */
static int
module_traverse(PyObject *module, visitproc visit, void *arg)
{
    corolla_state *state = corolla_state_of_module(module);
    if (state == NULL) {
        return 0;
    }
#define X(name, from, attribute) Py_VISIT(state->name);
    COROLLA_IMPORTS(X)
#undef X
#define X(name) Py_VISIT(state->name);
    EACH_OBJECT(X)
#undef X
    return 0;
}

void
corolla_state_free(corolla_state *state)
{
    corolla_scheduler_free(state);
#define X(name, from, attribute) Py_CLEAR(state->name);
    COROLLA_IMPORTS(X)
#undef X
#define X(name) Py_CLEAR(state->name);
    EACH_OBJECT(X)
#undef X
#define X(name) Py_CLEAR(state->s.name);
    COROLLA_STRINGS(X)
#undef X
    PyMem_Free(state);
}

static void
module_free(void *module)
{
    corolla_state *state = corolla_state_of_module((PyObject *)module);
    if (state != NULL) {
        state->module = NULL;
        corolla_state_drop(state);
    }
}

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, module_exec},
#if PY_VERSION_HEX >= 0x030C0000
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#endif
    {0, NULL},
};

PyDoc_STRVAR(module_doc, "asyncio, whole, in C: the compiled part of corolla.");

struct PyModuleDef corolla_module = {
    PyModuleDef_HEAD_INIT,   .m_name = "corolla._core",     .m_doc = module_doc,   .m_size = sizeof(corolla_state *),
    .m_slots = module_slots, .m_traverse = module_traverse, .m_free = module_free,
};

PyMODINIT_FUNC
PyInit__core(void)
{
    return PyModuleDef_Init(&corolla_module);
}
