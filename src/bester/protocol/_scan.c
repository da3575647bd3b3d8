/* Reads plain messages in one pass over their bytes (plain.py says which those are), and joins the parts of frames.

   A body is read only if it is plain and certainly right: UTF-8, strict JSON, not too deep, no key twice. Otherwise the
   functions return None, and Python decodes the body and says what is wrong. So a doubt costs time, never correctness.

   Cursors need no bounds: the byte behind a bytes object is 0, which is valid nowhere in JSON. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

#define MAX_LEVELS 192
#define ONES 0x0101010101010101u
#define HIGH 0x8080808080808080u

typedef const uint8_t *Cursor;

static PyObject *commands[5];
static const char *const command_names[5] = {"reply", "sendClients", "sendServers", "sendHandler", "done"};
static PyObject *null_data;

/* -- JSON: each function moves the cursor behind what it reads, and returns 0 if that is not there -------------------- */

static inline void skip_space(Cursor *at)
{
    while (**at == ' ' || **at == '\n' || **at == '\r' || **at == '\t')
        ++*at;
}

static inline int eat(Cursor *at, char wanted)
{
    skip_space(at);
    if (**at != (uint8_t)wanted)
        return 0;
    ++*at;
    return 1;
}

static int eat_word(Cursor *at, const char *word)
{
    Cursor here = *at;
    for (; *word; word++, here++)
        if (*here != (uint8_t)*word)
            return 0;
    *at = here;
    return 1;
}

static inline int is_hex(uint8_t c)
{
    return (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'f');
}

static int skip_escape(Cursor *at)
{
    Cursor here = *at + 1;
    if (*here == 'u') {
        for (int i = 1; i <= 4; i++)
            if (!is_hex(here[i]))
                return 0;
        if ((here[1] | 32) == 'd' && here[2] >= '8')
            return 0; /* a surrogate, which may be a lone one */
        *at = here + 5;
        return 1;
    }
    if (!*here || !strchr("\"\\/bfnrt", *here))
        return 0;
    *at = here + 1;
    return 1;
}

/* Moves behind one character of two to four bytes (RFC 3629). */
static int skip_wide(Cursor *at)
{
    Cursor c = *at;
    int more;
    if (c[0] >= 0xc2 && c[0] <= 0xdf)
        more = 1;
    else if ((c[0] & 0xf0) == 0xe0)
        more = 2;
    else if (c[0] >= 0xf0 && c[0] <= 0xf4)
        more = 3;
    else
        return 0;
    for (int i = 1; i <= more; i++)
        if ((c[i] & 0xc0) != 0x80)
            return 0;
    if ((c[0] == 0xe0 && c[1] < 0xa0) || (c[0] == 0xed && c[1] > 0x9f) || (c[0] == 0xf0 && c[1] < 0x90) ||
        (c[0] == 0xf4 && c[1] > 0x8f))
        return 0;
    *at = c + more + 1;
    return 1;
}

/* From the opening quote to behind the closing one. ``simple`` becomes 0 if there is an escape, or not only ASCII. */
static int skip_string(Cursor *at, Cursor end, int *simple)
{
    Cursor here = *at + 1;
    for (;;) {
        while (end - here >= 8) { /* eight bytes at a time that are ASCII, no control, quote or backslash */
            uint64_t word, quote, backslash;
            memcpy(&word, here, 8);
            quote = word ^ (ONES * '"');
            backslash = word ^ (ONES * '\\');
            if ((word | (word - ONES * 0x20) | ((quote - ONES) & ~quote) | ((backslash - ONES) & ~backslash)) & HIGH)
                break;
            here += 8;
        }
        for (int i = 0; i < 8; i++) {
            if (*here == '"') {
                *at = here + 1;
                return 1;
            }
            if (*here < 0x20)
                return 0;
            if (*here == '\\') {
                *simple = 0;
                if (!skip_escape(&here))
                    return 0;
            }
            else if (*here >= 0x80) {
                *simple = 0;
                if (!skip_wide(&here))
                    return 0;
            }
            else
                here++;
        }
    }
}

static int skip_digits(Cursor *at)
{
    Cursor begin = *at;
    while (**at >= '0' && **at <= '9')
        ++*at;
    return *at > begin;
}

static int skip_number(Cursor *at)
{
    if (**at == '-')
        ++*at;
    if (**at == '0')
        ++*at;
    else if (!skip_digits(at))
        return 0;
    if (**at == '.') {
        ++*at;
        if (!skip_digits(at))
            return 0;
    }
    if ((**at | 32) == 'e') {
        ++*at;
        if (**at == '+' || **at == '-')
            ++*at;
        if (!skip_digits(at))
            return 0;
    }
    return 1;
}

static int skip_value(Cursor *at, Cursor end, int levels)
{
    uint64_t objects[MAX_LEVELS / 64] = {0}; /* a bit for each open level: whether it is an object */
    int depth = 0, ignored, object;

value:
    skip_space(at);
    switch (**at) {
    case '"':
        if (!skip_string(at, end, &ignored))
            return 0;
        break;
    case '{':
    case '[':
        if (depth == levels)
            return 0;
        object = **at == '{';
        objects[depth / 64] &= ~((uint64_t)1 << depth % 64);
        objects[depth / 64] |= (uint64_t)object << depth % 64;
        depth++;
        ++*at;
        skip_space(at);
        if (**at == (object ? '}' : ']')) {
            ++*at;
            depth--;
            break;
        }
        if (object)
            goto key;
        goto value;
    case 't':
        if (!eat_word(at, "true"))
            return 0;
        break;
    case 'f':
        if (!eat_word(at, "false"))
            return 0;
        break;
    case 'n':
        if (!eat_word(at, "null"))
            return 0;
        break;
    default:
        if (!skip_number(at))
            return 0;
    }
    while (depth) {
        object = objects[(depth - 1) / 64] >> (depth - 1) % 64 & 1;
        skip_space(at);
        if (**at == ',') {
            ++*at;
            if (object)
                goto key;
            goto value;
        }
        if (**at != (object ? '}' : ']'))
            return 0;
        ++*at;
        depth--;
    }
    return 1;

key:
    skip_space(at);
    if (**at != '"' || !skip_string(at, end, &ignored) || !eat(at, ':'))
        return 0;
    goto value;
}

/* -- messages: tables of the members that they may have ------------------------------------------------------------- */

enum { TYPE, ID, DATA, OUTER_DATA, STATUS, KIND, TO, NOTHING };
enum form { TEXT, VALUE, OBJECT };

typedef struct {
    Cursor begin, end; /* begin is NULL if the member is not there */
} Part;

typedef struct Member {
    const char *key;
    enum form form;
    int part;
    const struct Member *inner;
} Member;

static const Member no_members[] = {{0}};
static const Member payload[] = {
    {"\"type\"", TEXT, TYPE, 0}, {"\"id\"", TEXT, ID, 0}, {"\"data\"", VALUE, DATA, 0}, {0}};
static const Member message_members[] = {{"\"header\"", OBJECT, NOTHING, no_members}, {"\"payload\"", OBJECT, NOTHING + 1, payload}, {0}};
static const Member command[] = {{"\"type\"", TEXT, KIND, 0}, {"\"data\"", VALUE, TO, 0}, {0}};
static const Member answer_header[] = {
    {"\"id\"", TEXT, ID, 0}, {"\"status\"", TEXT, STATUS, 0}, {"\"command\"", OBJECT, NOTHING + 2, command}, {0}};
static const Member answer_payload[] = {{"\"type\"", TEXT, TYPE, 0}, {"\"data\"", VALUE, DATA, 0}, {0}};
static const Member answer_members[] = {{"\"header\"", OBJECT, NOTHING, answer_header},
                                        {"\"payload\"", OBJECT, NOTHING + 1, answer_payload},
                                        {"\"data\"", VALUE, OUTER_DATA, 0},
                                        {0}};

/* Reads a string of ASCII without escapes; the part has its quotes. */
static int read_text(Cursor *at, Cursor end, Part *part)
{
    int simple = 1;
    skip_space(at);
    part->begin = *at;
    if (**at != '"' || !skip_string(at, end, &simple) || !simple)
        return 0;
    part->end = *at;
    return 1;
}

static int read_object(Cursor *at, Cursor end, int levels, const Member *members, Part *parts, unsigned *seen)
{
    const Member *found;
    if (!eat(at, '{'))
        return 0;
    if (eat(at, '}'))
        return 1;
    do {
        skip_space(at);
        for (found = members; found->key && !eat_word(at, found->key); found++)
            ;
        if (!found->key || *seen & 1u << found->part || !eat(at, ':'))
            return 0;
        *seen |= 1u << found->part;
        switch (found->form) {
        case TEXT:
            if (!read_text(at, end, &parts[found->part]))
                return 0;
            break;
        case VALUE:
            skip_space(at);
            parts[found->part].begin = *at;
            if (!skip_value(at, end, levels - 1))
                return 0;
            parts[found->part].end = *at;
            break;
        case OBJECT:
            if (!read_object(at, end, levels - 1, found->inner, parts, seen))
                return 0;
        }
    } while (eat(at, ','));
    return eat(at, '}');
}

static int read_body(PyObject *body, int levels, const Member *members, Part *parts)
{
    Cursor at, end;
    unsigned seen = 0;
    if (!PyBytes_CheckExact(body))
        return 0;
    at = (Cursor)PyBytes_AS_STRING(body);
    end = at + PyBytes_GET_SIZE(body);
    if (!read_object(&at, end, levels, members, parts, &seen))
        return 0;
    skip_space(&at);
    return at == end;
}

static PyObject *text(Part part)
{
    PyObject *found = PyUnicode_New(part.end - part.begin - 2, 127);
    if (found)
        memcpy(PyUnicode_1BYTE_DATA(found), part.begin + 1, part.end - part.begin - 2);
    return found;
}

static PyObject *bytes(Part part)
{
    return PyBytes_FromStringAndSize((const char *)part.begin, part.end - part.begin);
}

/* The types of messages are few: each is the same object every time, which knows its hash. */
static PyObject *type_text(Part part)
{
    static PyObject *known[64];
    size_t size = part.end - part.begin - 2;
    PyObject **slot = &known[(part.begin[1] * 7 + part.end[-2] + size * 31) % 64];
    if (!*slot || (size_t)PyUnicode_GET_LENGTH(*slot) != size || memcmp(PyUnicode_1BYTE_DATA(*slot), part.begin + 1, size)) {
        PyObject *made = text(part);
        if (!made || size > 64)
            return made;
        Py_XSETREF(*slot, made);
    }
    return Py_NewRef(*slot);
}

/* The data of a command: a string, a list of strings, null; NULL without an error if it is anything else. */
static PyObject *recipients(Part part)
{
    Cursor at = part.begin;
    Part one;
    PyObject *list, *name;
    if (!at || (eat_word(&at, "null") && at == part.end))
        return Py_NewRef(Py_None);
    at = part.begin;
    if (*at == '"')
        return read_text(&at, part.end, &one) ? text(one) : NULL;
    if (!eat(&at, '['))
        return NULL;
    list = PyList_New(0);
    if (!list || eat(&at, ']'))
        return list;
    do {
        if (!read_text(&at, part.end, &one) || !(name = text(one)))
            goto other;
        if (PyList_Append(list, name) < 0) {
            Py_DECREF(name);
            goto other;
        }
        Py_DECREF(name);
    } while (eat(&at, ','));
    if (eat(&at, ']'))
        return list;
other:
    Py_DECREF(list);
    return NULL;
}

static PyObject *command_name(Part part)
{
    size_t size = part.end - part.begin - 2;
    for (int i = 0; i < 5; i++)
        if (strlen(command_names[i]) == size && !memcmp(command_names[i], part.begin + 1, size))
            return Py_NewRef(commands[i]);
    return NULL;
}

/* Returns the tuple of these, and releases them; None if one is missing without an error. */
static PyObject *result(PyObject **items, int count)
{
    PyObject *found = NULL;
    int missing = 0;
    for (int i = 0; i < count; i++)
        missing |= !items[i];
    if (!missing && (found = PyTuple_New(count)))
        for (int i = 0; i < count; i++)
            PyTuple_SET_ITEM(found, i, Py_NewRef(items[i]));
    for (int i = 0; i < count; i++)
        Py_XDECREF(items[i]);
    if (!found && !PyErr_Occurred())
        Py_RETURN_NONE;
    return found;
}

static PyObject *scan_message(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    Part parts[NOTHING] = {{0}};
    if (count != 2 || !read_body(args[0], (int)PyLong_AsLong(args[1]), message_members, parts) || !parts[TYPE].begin)
        Py_RETURN_NONE;
    PyObject *items[] = {
        type_text(parts[TYPE]),
        parts[ID].begin ? bytes(parts[ID]) : PyBytes_FromString("\"\""),
        parts[DATA].begin ? bytes(parts[DATA]) : Py_NewRef(null_data),
    };
    return result(items, 3);
}

static PyObject *scan_answer(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    Part parts[NOTHING] = {{0}}, data;
    if (count != 2 || !read_body(args[0], (int)PyLong_AsLong(args[1]), answer_members, parts) || !parts[ID].begin ||
        !parts[KIND].begin || !parts[STATUS].begin || memcmp(parts[STATUS].begin, "\"0\"", 3))
        Py_RETURN_NONE;
    data = parts[DATA].begin ? parts[DATA] : parts[OUTER_DATA];
    PyObject *items[] = {
        text(parts[ID]),
        command_name(parts[KIND]),
        recipients(parts[TO]),
        parts[TYPE].begin ? type_text(parts[TYPE]) : Py_NewRef(Py_None),
        data.begin ? bytes(data) : Py_NewRef(null_data),
    };
    return result(items, 5);
}

/* -- frames ---------------------------------------------------------------------------------------------------------- */

static PyObject *join_frame(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    Py_buffer views[16];
    Py_ssize_t size = 0, taken = 0;
    PyObject *frame = NULL;
    if (count > 16) {
        PyErr_SetString(PyExc_TypeError, "a frame has at most 16 parts");
        return NULL;
    }
    for (; taken < count; taken++) {
        Py_buffer *view = &views[taken];
        if (PyBytes_CheckExact(args[taken])) {
            view->obj = NULL;
            view->buf = PyBytes_AS_STRING(args[taken]);
            view->len = PyBytes_GET_SIZE(args[taken]);
        }
        else if (PyObject_GetBuffer(args[taken], view, PyBUF_SIMPLE) < 0)
            goto done;
        size += view->len;
    }
    if (size > UINT32_MAX) {
        PyErr_SetString(PyExc_OverflowError, "a frame of more than 4 GiB");
        goto done;
    }
    frame = PyBytes_FromStringAndSize(NULL, size + 4);
    if (frame) {
        uint8_t *to = (uint8_t *)PyBytes_AS_STRING(frame);
        for (int i = 0; i < 4; i++)
            *to++ = (uint8_t)(size >> 8 * i);
        for (Py_ssize_t i = 0; i < count; i++) {
            memcpy(to, views[i].buf, views[i].len);
            to += views[i].len;
        }
    }
done:
    while (taken--)
        if (views[taken].obj)
            PyBuffer_Release(&views[taken]);
    return frame;
}

static PyMethodDef methods[] = {
    {"message", (PyCFunction)(void (*)(void))scan_message, METH_FASTCALL, NULL},
    {"answer", (PyCFunction)(void (*)(void))scan_answer, METH_FASTCALL, NULL},
    {"frame", (PyCFunction)(void (*)(void))join_frame, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_scan", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__scan(void)
{
    for (int i = 0; i < 5; i++)
        if (!(commands[i] = PyUnicode_InternFromString(command_names[i])))
            return NULL;
    if (!(null_data = PyBytes_FromString("null")))
        return NULL;
    return PyModule_Create(&module);
}
