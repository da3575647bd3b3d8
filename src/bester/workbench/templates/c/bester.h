/* Attaches to a Bester server, and serves its requests (docs/protocol.md, sections 1 and 6). */
#ifndef BESTER_H
#define BESTER_H

#include "json.h"

#include <stdint.h>

#define MAX_BODY (1024 * 1024 + 64 * 1024) /* bytes; what a server sends with its default limits */
#define CONCURRENCY 64                      /* how many requests may wait here for their answers */

/* Bytes that grow; start with {0}. Memory that cannot be had ends the process: a server starts it again. */
struct buffer {
    char *at;
    size_t size, room;
};

void put(struct buffer *buffer, const void *bytes, size_t size);
void put_text(struct buffer *buffer, const char *text);
void put_span(struct buffer *buffer, struct span part);

/* One message, as parts of the frame that it came in, each of them JSON; `at` is NULL where there is none. */
struct request {
    struct span type, data;
    struct span from;      /* who sent it: {"user", "server", "verified"} */
    struct span client_id; /* the sender's own tag */
};

/* Writes the members "command" or "commands" of the answer's header to `what`, as in "command":{"type":"done"}, and the
 * outgoing data to `data`. Returns false where the message cannot be handled, with nothing in `what`, or with why: the
 * member "error", as in "error":{"code":"mytype.soldOut","message":"sold out","temporary":true}. Its sender is told. */
typedef bool handle(const struct request *request, struct buffer *what, struct buffer *data);

/* Serves a type until SIGTERM or SIGINT; then takes nothing new, answers what is there, and returns. When the server
 * goes away it tries again until it is back. Returns the exit status. */
int serve(const char *type, handle *handler);

/* Returns the size of the frame's body that begins here: -1 if not all of it is there, -2 if the stream cannot be read
 * on. The body begins 4 bytes later. */
long frame_size(const char *at, size_t size);

#endif
