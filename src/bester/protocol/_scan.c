/* Reads plain messages in one pass over their bytes (plain.py says which those are), and joins the parts of frames.

   A body is read only if it is plain and certainly right: UTF-8, strict JSON, not too deep, no member twice. Otherwise the
   functions return None, and Python decodes the body and says what is wrong. So a doubt costs time, never correctness.

   Cursors need no bounds: the byte behind a bytes object is 0, which JSON has nowhere. Functions that take one move it
   behind what they read, and return 0 if that is not there. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <ctype.h>
#include <stdint.h>
#include <string.h>

#define MAX_LEVELS 192
#define MAX_PARTS 16
#define BLOCK 16

typedef uint8_t Block __attribute__((vector_size(BLOCK))); /* which gcc and clang compare as a whole */
typedef const uint8_t *Cursor;
typedef struct { Cursor begin, end; } Part; /* begin is NULL if it is not there */

/* -- JSON ------------------------------------------------------------------------------------------------------------ */

static inline void skip_space(Cursor *at)
{
    while (**at == ' ' || **at == '\n' || **at == '\r' || **at == '\t') ++*at;
}

static inline int eat(Cursor *at, char wanted)
{
    skip_space(at);
    return **at == (uint8_t)wanted ? (++*at, 1) : 0;
}

static int eat_word(Cursor *at, const char *word)
{
    Cursor here = *at;
    for (; *word; word++, here++)
        if (*here != (uint8_t)*word) return 0;
    return *at = here, 1;
}

static int skip_escape(Cursor *at)
{
    Cursor c = *at + 1;
    if (*c != 'u') return *at = c + 1, *c && strchr("\"\\/bfnrt", *c);
    for (int i = 1; i <= 4; i++)
        if (!isxdigit(c[i])) return 0;
    return *at = c + 5, 1; /* even a lone surrogate, for data may have that, and nothing else is read that has escapes */
}

/* One character of two to four bytes (RFC 3629). */
static int skip_wide(Cursor *at)
{
    Cursor c = *at;
    int more = c[0] < 0xe0 ? 1 : c[0] < 0xf0 ? 2 : 3;
    if (c[0] < 0xc2 || c[0] > 0xf4) return 0;
    for (int i = 1; i <= more; i++)
        if ((c[i] & 0xc0) != 0x80) return 0;
    *at = c + more + 1;
    return !((c[0] == 0xe0 && c[1] < 0xa0) || (c[0] == 0xed && c[1] > 0x9f) || (c[0] == 0xf0 && c[1] < 0x90) ||
             (c[0] == 0xf4 && c[1] > 0x8f));
}

/* A string with its quotes. ``simple`` becomes 0 if there is an escape, or not only ASCII. */
static int skip_string(Cursor *at, Cursor end, int *simple)
{
    Cursor here = *at + 1;
    if (**at != '"') return 0;
    for (;;) {
        for (; end - here >= BLOCK; here += BLOCK) { /* of ASCII without controls, quotes and backslashes */
            Block block;
            uint64_t found[2];
            memcpy(&block, here, BLOCK);
            block = (Block)(block < 0x20) | (Block)(block == '"') | (Block)(block == '\\') | (Block)(block > 0x7f);
            memcpy(found, &block, BLOCK);
            if (!(found[0] | found[1])) continue;
            if (PY_LITTLE_ENDIAN) here += __builtin_ctzll(found[0] ? found[0] : found[1]) / 8 + (found[0] ? 0 : 8);
            break;
        }
        for (int i = 0; i < BLOCK; i++) {
            if (*here == '"') return *at = here + 1, 1;
            if (*here < 0x20) return 0;
            if (*here != '\\' && *here < 0x80) {
                here++;
            } else {
                *simple = 0;
                if (!(*here == '\\' ? skip_escape(&here) : skip_wide(&here))) return 0;
            }
        }
    }
}

static int skip_digits(Cursor *at)
{
    Cursor begin = *at;
    while (**at >= '0' && **at <= '9') ++*at;
    return *at > begin;
}

static int skip_number(Cursor *at)
{
    *at += **at == '-';
    if (!(**at == '0' ? (++*at, 1) : skip_digits(at)) || (**at == '.' && (++*at, !skip_digits(at)))) return 0;
    if ((**at | 32) != 'e') return 1;
    ++*at;
    *at += **at == '+' || **at == '-';
    return skip_digits(at);
}

/* Any value, with at most so many levels of lists and objects. */
static int skip_value(Cursor *at, Cursor end, int levels)
{
    uint8_t close[MAX_LEVELS]; /* of each open level */
    int depth = 0, ignored;
    for (;;) {
        skip_space(at);
        if (**at == '{' || **at == '[') {
            if (depth == levels) return 0;
            close[depth++] = **at == '{' ? '}' : ']';
            ++*at;
            if (!eat(at, close[depth - 1])) goto member;
            depth--;
        } else if (!(**at == '"'   ? skip_string(at, end, &ignored)
                     : **at == 't' ? eat_word(at, "true")
                     : **at == 'f' ? eat_word(at, "false")
                     : **at == 'n' ? eat_word(at, "null")
                                   : skip_number(at)))
            return 0;
        for (;; depth--) {
            if (!depth) return 1;
            if (eat(at, ',')) break;
            if (!eat(at, close[depth - 1])) return 0;
        }
    member:
        if (close[depth - 1] == '}') {
            skip_space(at);
            if (!skip_string(at, end, &ignored) || !eat(at, ':')) return 0;
        }
    }
}

/* -- messages: tables of the members that they may have -------------------------------------------------------------- */

enum { TYPE, ID, DATA, OUTER_DATA, STATUS, KIND, TO, HEADER, PAYLOAD, COMMAND, PARTS };

typedef struct Member {
    const char *key;
    int part, text; /* text: a string of ASCII without escapes, whose part has its quotes; else any value */
    const struct Member *inner;
} Member;

static const Member none[] = {{0}};
static const Member payload[] = {{"\"type\"", TYPE, 1}, {"\"id\"", ID, 1}, {"\"data\"", DATA}, {0}};
static const Member message[] = {{"\"header\"", HEADER, 0, none}, {"\"payload\"", PAYLOAD, 0, payload}, {0}};
static const Member command[] = {{"\"type\"", KIND, 1}, {"\"data\"", TO}, {0}};
static const Member header[] = {
    {"\"id\"", ID, 1}, {"\"status\"", STATUS, 1}, {"\"command\"", COMMAND, 0, command}, {0}};
static const Member outgoing[] = {{"\"type\"", TYPE, 1}, {"\"data\"", DATA}, {0}};
static const Member answer[] = {
    {"\"header\"", HEADER, 0, header}, {"\"payload\"", PAYLOAD, 0, outgoing}, {"\"data\"", OUTER_DATA}, {0}};

static int read_object(Cursor *at, Cursor end, int levels, const Member *members, Part *parts, unsigned *seen)
{
    if (!eat(at, '{')) return 0;
    if (eat(at, '}')) return 1;
    do {
        const Member *found = members;
        skip_space(at);
        while (found->key && !eat_word(at, found->key)) found++;
        if (!found->key || *seen & 1u << found->part || !eat(at, ':')) return 0;
        *seen |= 1u << found->part;
        skip_space(at);
        Part *part = &parts[found->part];
        part->begin = *at;
        int simple = 1;
        if (!(found->inner ? read_object(at, end, levels - 1, found->inner, parts, seen)
              : found->text ? skip_string(at, end, &simple) && simple
                            : skip_value(at, end, levels - 1)))
            return 0;
        part->end = *at;
    } while (eat(at, ','));
    return eat(at, '}');
}

static int read_body(PyObject *const *args, Py_ssize_t count, const Member *members, Part *parts)
{
    int too_large; /* for a C long, which is no exception here */
    unsigned seen = 0;
    if (count != 2 || !PyBytes_CheckExact(args[0]) || !PyLong_CheckExact(args[1])) return 0;
    long levels = PyLong_AsLongAndOverflow(args[1], &too_large);
    if (levels < 4 || levels > MAX_LEVELS) return 0;
    Cursor at = (Cursor)PyBytes_AS_STRING(args[0]), end = at + PyBytes_GET_SIZE(args[0]);
    if (!read_object(&at, end, (int)levels, members, parts, &seen)) return 0;
    skip_space(&at);
    return at == end;
}

static PyObject *bytes(Part part, const char *otherwise)
{
    if (!part.begin) return PyBytes_FromString(otherwise);
    return PyBytes_FromStringAndSize((const char *)part.begin, part.end - part.begin);
}

static PyObject *text(Part part)
{
    PyObject *found = PyUnicode_New(part.end - part.begin - 2, 127);
    if (found) memcpy(PyUnicode_1BYTE_DATA(found), part.begin + 1, part.end - part.begin - 2);
    return found;
}

/* Types and commands are few: each is the same object every time, which knows its hash. The table needs the GIL, which
   Python without it turns on to import this module, because it does not declare that it can do without. */
static PyObject *known_text(Part part)
{
    static PyObject *known[64];
    size_t size = part.end - part.begin - 2;
    PyObject **slot = &known[(part.begin[1] * 7 + part.end[-2] + size * 31) % 64];
    if (size > 64) return text(part);
    if (!*slot || (size_t)PyUnicode_GET_LENGTH(*slot) != size || memcmp(PyUnicode_1BYTE_DATA(*slot), part.begin + 1, size)) {
        PyObject *made = text(part);
        if (!made) return NULL;
        Py_XSETREF(*slot, made);
    }
    return Py_NewRef(*slot);
}

/* A tuple of new references, which are given away; NULL if one of them is. */
static PyObject *pack(PyObject **items, int count)
{
    PyObject *tuple = PyTuple_New(count);
    for (int i = 0; i < count; i++) {
        if (tuple && items[i]) {
            PyTuple_SET_ITEM(tuple, i, items[i]);
        } else {
            Py_XDECREF(items[i]);
            Py_CLEAR(tuple);
        }
    }
    return tuple;
}

static PyObject *scan_message(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    Part parts[PARTS] = {{0}};
    if (!read_body(args, count, message, parts) || !parts[TYPE].begin) Py_RETURN_NONE;
    PyObject *items[] = {known_text(parts[TYPE]), bytes(parts[ID], "\"\""), bytes(parts[DATA], "null")};
    return pack(items, 3);
}

static PyObject *scan_answer(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    Part parts[PARTS] = {{0}};
    if (!read_body(args, count, answer, parts) || !parts[ID].begin || !parts[KIND].begin || !parts[STATUS].begin ||
        memcmp(parts[STATUS].begin, "\"0\"", 3))
        Py_RETURN_NONE;
    PyObject *type = parts[TYPE].begin ? known_text(parts[TYPE]) : Py_NewRef(Py_None);
    PyObject *items[] = {text(parts[ID]), known_text(parts[KIND]), bytes(parts[TO], ""), type,
                         bytes(parts[DATA].begin ? parts[DATA] : parts[OUTER_DATA], "null")};
    return pack(items, 5);
}

/* -- frames ---------------------------------------------------------------------------------------------------------- */

static PyObject *join_frame(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    Py_buffer views[MAX_PARTS];
    Py_ssize_t size = 0, taken = 0;
    PyObject *frame = NULL;
    if (count > MAX_PARTS) return PyErr_Format(PyExc_TypeError, "a frame has at most %d parts", MAX_PARTS);
    for (; taken < count; size += views[taken++].len) {
        PyObject *part = args[taken];
        if (PyBytes_CheckExact(part)) /* as most are; the copy is released without effect */
            views[taken] = (Py_buffer){.buf = PyBytes_AS_STRING(part), .len = PyBytes_GET_SIZE(part)};
        else if (PyObject_GetBuffer(part, &views[taken], PyBUF_SIMPLE) < 0)
            goto done;
    }
    if (size > UINT32_MAX)
        PyErr_SetString(PyExc_OverflowError, "a frame has at most 4 GiB");
    else
        frame = PyBytes_FromStringAndSize(NULL, size + 4);
    if (frame) {
        uint8_t *to = (uint8_t *)PyBytes_AS_STRING(frame);
        for (int i = 0; i < 4; i++) *to++ = (uint8_t)(size >> 8 * i);
        for (Py_ssize_t i = 0; i < count; to += views[i++].len) memcpy(to, views[i].buf, views[i].len);
    }
done:
    while (taken--) PyBuffer_Release(&views[taken]);
    return frame;
}

static PyMethodDef methods[] = {{"message", (PyCFunction)(void (*)(void))scan_message, METH_FASTCALL, NULL},
                                {"answer", (PyCFunction)(void (*)(void))scan_answer, METH_FASTCALL, NULL},
                                {"frame", (PyCFunction)(void (*)(void))join_frame, METH_FASTCALL, NULL},
                                {0}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_scan", NULL, -1, methods};

PyMODINIT_FUNC PyInit__scan(void) { return PyModule_Create(&module); }
