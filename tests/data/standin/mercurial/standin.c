/* The C extension of the stand-in: one function. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

static PyObject *policy(PyObject *self, PyObject *args)
{
	(void)self;
	(void)args;
	return PyUnicode_FromString("c");
}

static PyMethodDef methods[] = {{"policy", policy, METH_NOARGS, NULL},
                                {NULL, NULL, 0, NULL}};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT,
                                    "_standin",
                                    NULL,
                                    -1,
                                    methods,
                                    NULL,
                                    NULL,
                                    NULL,
                                    NULL};

PyMODINIT_FUNC PyInit__standin(void)
{
	return PyModule_Create(&module);
}
