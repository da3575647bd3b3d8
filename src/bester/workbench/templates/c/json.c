#include "json.h"

#include <string.h>

static bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

/* The position behind a string's closing quote, or NULL where it has none; `at` is at its opening quote. */
static const char *end_of_string(const char *at, const char *end) {
    for (at++; at < end; at++) {
        if (*at == '\\')
            at++;
        else if (*at == '"')
            return at + 1;
    }
    return NULL;
}

static struct span trimmed(const char *from, const char *to) {
    while (from < to && is_space(*from)) from++;
    while (to > from && is_space(to[-1])) to--;
    return (struct span){from, (size_t)(to - from)};
}

struct span json_member(struct span object, const char *name) {
    const struct span none = {NULL, 0};
    struct span found = none, key = none;
    const char *start = NULL; /* of the value whose key was read; NULL while a key is awaited */
    char closing[JSON_DEPTH];
    size_t depth = 0;
    if (object.at == NULL || object.size == 0) return none;
    const char *end = object.at + object.size;
    for (const char *at = object.at; at < end; at++) {
        switch (*at) {
        case '"': {
            const char *after = end_of_string(at, end);
            if (after == NULL) return none;
            if (depth == 1 && start == NULL) key = (struct span){at, (size_t)(after - at)};
            at = after - 1;
            break;
        }
        case '{':
        case '[':
            if (depth == JSON_DEPTH || (depth == 0 && *at != '{')) return none;
            closing[depth++] = *at == '{' ? '}' : ']';
            break;
        case ':':
            if (depth == 1) start = at + 1;
            break;
        case ',':
        case '}':
        case ']':
            if (depth == 0 || (*at != ',' && closing[depth - 1] != *at)) return none;
            if (depth == 1 && start != NULL) {
                if (json_is(key, name)) found = trimmed(start, at);
                start = NULL;
            }
            if (*at != ',') depth--;
            break;
        default:
            if (depth == 0 && !is_space(*at)) return none;
        }
    }
    return depth == 0 ? found : none;
}

static int hex4(const char *at) {
    int value = 0;
    for (int i = 0; i < 4; i++) {
        char c = at[i];
        int digit = c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
        if (digit < 0) return -1;
        value = value * 16 + digit;
    }
    return value;
}

static size_t put_utf8(unsigned long c, char out[4]) {
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    size_t more = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
    static const unsigned char first[] = {0, 0xc0, 0xe0, 0xf0};
    for (size_t i = more; i > 0; i--, c >>= 6) out[i] = (char)(0x80 | (c & 0x3f));
    out[0] = (char)(first[more] | c);
    return more + 1;
}

long json_text(struct span value, char *out, size_t room) {
    static const char escapes[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
    if (value.at == NULL || value.size < 2 || value.at[0] != '"' || room == 0) return -1;
    const char *at = value.at + 1, *end = value.at + value.size - 1;
    size_t size = 0;
    while (at < end) {
        char one[4];
        size_t more = 1;
        one[0] = *at++;
        if (one[0] == '\\') {
            if (at == end) return -1;
            char c = *at++;
            if (c == 'u') {
                int first = end - at >= 4 ? hex4(at) : -1;
                if (first < 0) return -1;
                at += 4;
                unsigned long code = (unsigned long)first;
                if (first >= 0xd800 && first < 0xe000) {
                    int second = first < 0xdc00 && end - at >= 6 && at[0] == '\\' && at[1] == 'u' ? hex4(at + 2) : -1;
                    code = 0xfffd;
                    if (second >= 0xdc00 && second < 0xe000) {
                        code = 0x10000UL + (((unsigned long)first - 0xd800) << 10) + ((unsigned long)second - 0xdc00);
                        at += 6;
                    }
                }
                more = put_utf8(code, one);
            } else {
                const char *found = strchr(escapes, c);
                if (found == NULL || c == '\0') return -1;
                one[0] = meant[found - escapes];
            }
        }
        if (size + more >= room) return -1;
        memcpy(out + size, one, more);
        size += more;
    }
    out[size] = '\0';
    return (long)size;
}

bool json_is(struct span value, const char *text) {
    char said[256];
    long size = json_text(value, said, sizeof said);
    return size >= 0 && (size_t)size == strlen(text) && memcmp(said, text, (size_t)size) == 0;
}
