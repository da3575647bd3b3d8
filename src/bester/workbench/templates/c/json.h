/* Finds parts of JSON without making values of it: a part is where it stands in the text, byte for byte.
 *
 * What a server sends is strict JSON (docs/protocol.md, section 1.2), so this looks no further than it must to find the
 * way: strings with their escapes, and brackets, at most JSON_DEPTH of them deep. It never recurses.
 */
#ifndef JSON_H
#define JSON_H

#include <stdbool.h>
#include <stddef.h>

#define JSON_DEPTH 256

/* A part of a text; `at` is NULL where there is none. */
struct span {
    const char *at;
    size_t size;
};

/* The value of an object's member, without the space around it; of a repeated key that of the last. */
struct span json_member(struct span object, const char *name);

/* Whether a value is the string `text`, in whatever spelling. */
bool json_is(struct span value, const char *text);

/* Writes what a JSON string says as UTF-8 with a zero behind it, at most `room` bytes in all; half a surrogate pair is
 * written as U+FFFD. Returns the length without the zero, or -1 if it is no string or has no room. */
long json_text(struct span value, char *out, size_t room);

#endif
