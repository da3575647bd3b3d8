/* Handlers in C: handlers SCRIPT KIND ADDRESS NAME_BYTES; each prints "ready". They write once for each read.
 *
 * Kinds: "attached" to our server, "classic", "nats", "relay". The script: the hello; then four pieces, between which
 * an answer of ours has the request's id, so many bytes of the data that name an account, and the data.
 */

#include "lean.h"

static struct bytes hello, pieces[4];
static size_t name_bytes;
static int attached;
static struct peer handler;

static void ready(void) {
    puts("ready");
    fflush(stdout);
}

/* Writes a frame that consists of these, when the turn ends. */
static void frame(struct peer *peer, const struct bytes *parts, int count) {
    uint32_t sum = 0;
    for (int each = 0; each < count; each++)
        sum += (uint32_t)parts[each].size;
    char before[] = {(char)sum, (char)(sum >> 8), (char)(sum >> 16), (char)(sum >> 24)};
    later(peer, before, 4);
    for (int each = 0; each < count; each++)
        later(peer, parts[each].at, parts[each].size);
}

/* Finds a member of a request as our server writes it. Their order is not promised, and a change would be seen at
 * once, in the replies that are compared, or because one is not found. */
static char *after(char *data, char *end, const char *member) {
    char *found = memmem(data, (size_t)(end - data), member, strlen(member));
    if (!found)
        fail_with(member, data, (size_t)(end - data));
    return found + strlen(member);
}

static size_t answer_attached(struct peer *peer, char *data, size_t size) {
    size_t whole = whole_frame(data, size);
    if (!whole)
        return 0;
    char *end = data + whole;
    if (!attached) {
        attached = 1;
        ready();
        return whole;
    }
    char *id = after(data + 4, end, "\"id\":\""), *id_end = memchr(id, '"', (size_t)(end - id));
    char *value = after(id_end, end, "\"data\":");
    struct bytes filled[] = {
        pieces[0], {id, (size_t)(id_end - id)}, pieces[1], {value + 1, name_bytes},
        pieces[2], {value, (size_t)(end - 2 - value)}, pieces[3],
    };
    frame(peer, filled, 7);
    return whole;
}

static size_t answer_relay(struct peer *peer, char *data, size_t size) {
    size_t whole = whole_frame(data, size);
    if (whole)
        later(peer, data, whole);
    return whole;
}

/* MSG subject 1 inbox size */
static size_t answer_nats(struct peer *peer, char *data, size_t size) {
    char *line = memmem(data, size, "\r\n", 2);
    if (!line)
        return 0;
    size_t taken = (size_t)(line - data) + 2;
    if (*data == 'M') {
        char *number = memrchr(data, ' ', taken - 2), *inbox = memrchr(data, ' ', (size_t)(number - data));
        size_t payload = (size_t)atol(number + 1);
        if (size < taken + payload + 2)
            return 0;
        taken += payload + 2;
        later(peer, "PUB", 3);
        later(peer, inbox, (size_t)(data + taken - inbox));
    } else if (!memcmp(data, "PING", 4)) {
        later(peer, "PONG\r\n", 6);
    } else if (!memcmp(data, "PONG", 4)) {
        ready();
    }
    return taken;
}

/* One connection of our server, for one message. */
static size_t answer_classic(struct peer *peer, char *data, size_t size) {
    size_t whole = whole_frame(data, size);
    if (!whole)
        return 0;
    struct bytes filled[] = {pieces[0], {data + 4, whole - 4}, pieces[3]};
    frame(peer, filled, 3);
    flush(peer);
    return whole;
}

static void finished(struct peer *peer) {
    close(peer->fd);
    free(peer->rest.at);
    free(peer->unsent.at);
    free(peer);
}

static void accept_classic(struct peer *listener) {
    int fd = accept(listener->fd, NULL, NULL);
    if (fd < 0)
        return;
    struct peer *peer = calloc(1, sizeof *peer);
    peer->received = answer_classic;
    peer->lost = finished;
    opened(peer, fd);
}

static void ended(struct peer *peer) {
    (void)peer;
    exit(0);
}

static void turned(void) { flush(&handler); }

int main(int count, char **arguments) {
    if (count != 5)
        fail("handlers SCRIPT KIND ADDRESS NAME_BYTES");
    open_script(arguments[1]);
    hello = next_bytes();
    for (int each = 0; each < 4; each++)
        pieces[each] = next_bytes();
    name_bytes = (size_t)atoi(arguments[4]);
    const char *kind = arguments[2];
    handler.lost = ended;
    if (!strcmp(kind, "classic")) {
        handler.accepting = accept_classic;
        serve_at(&handler, arguments[3]);
    } else {
        handler.received = !strcmp(kind, "nats") ? answer_nats : !strcmp(kind, "relay") ? answer_relay : answer_attached;
        dial(&handler, arguments[3]);
        send_now(&handler, hello.at, hello.size);
    }
    if (!strcmp(kind, "classic") || !strcmp(kind, "relay"))
        ready();
    serve(1e18, NULL, turned);
}
