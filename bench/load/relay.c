/* The floor in C: relay FOLDER. It does what relay.py does, looks at nothing but lengths, and costs what the kernel does.
 *
 * A client's frame goes to the handler; a frame of the handler goes to the client whose number it begins with, or to
 * all. One write per destination for all that came in one turn of the loop.
 */

#include "lean.h"

enum { CLIENTS = 65536 };
static const uint32_t ALL = 0xffffffff;

static struct peer listener, handlers, *handler, *clients[CLIENTS];
/* Those to whom something is to be written at the end of the turn. */
static struct peer *waiting[CLIENTS];
static int waiting_count, client_count;

static void give(struct peer *peer, const char *data, size_t size) {
    if (!peer->unsent.size)
        waiting[waiting_count++] = peer;
    later(peer, data, size);
}

static void turned(void) {
    while (waiting_count)
        flush(waiting[--waiting_count]);
}

static size_t whole_frames(const char *data, size_t size) {
    size_t at = 0, step;
    while ((step = whole_frame(data + at, size - at)))
        at += step;
    return at;
}

/* A client's first frame has its number, and comes back. */
static size_t from_client(struct peer *peer, char *data, size_t size) {
    size_t whole = whole_frames(data, size);
    if (!whole)
        return 0;
    if (peer->number < 0) {
        peer->number = (int)length(data + 4);
        if (peer->number >= CLIENTS)
            fail("client %d: there is room for %d", peer->number, CLIENTS);
        client_count = peer->number >= client_count ? peer->number + 1 : client_count;
        clients[peer->number] = peer;
        give(peer, data, whole);
    } else {
        give(handler, data, whole);
    }
    return whole;
}

static size_t from_handler(struct peer *peer, char *data, size_t size) {
    (void)peer;
    size_t at = 0, step;
    for (; (step = whole_frame(data + at, size - at)); at += step) {
        uint32_t number = length(data + at + 4);
        if (number == ALL) {
            for (int each = 0; each < client_count; each++)
                if (clients[each])
                    give(clients[each], data + at, step);
        } else if (number < CLIENTS && clients[number]) {
            give(clients[number], data + at, step);
        }
    }
    return at;
}

static void lost(struct peer *peer) {
    if (peer->number >= 0 && clients[peer->number] == peer)
        clients[peer->number] = NULL;
    close(peer->fd);
    peer->fd = -1; /* what is to be written to it yet fails, and nobody misses it */
    peer->full = 0;
}

static void accepting(struct peer *from) {
    int fd = accept(from->fd, NULL, NULL);
    if (fd < 0)
        return;
    struct peer *peer = calloc(1, sizeof *peer);
    peer->received = from == &handlers ? from_handler : from_client;
    peer->lost = lost;
    peer->number = -1;
    if (from == &handlers && !handler)
        handler = peer;
    opened(peer, fd);
}

int main(int count, char **arguments) {
    if (count != 2)
        fail("relay FOLDER");
    struct sockaddr_in name;
    socklen_t size = sizeof name;
    char path[4096];
    snprintf(path, sizeof path, "%s/handlers", arguments[1]);
    listener.accepting = handlers.accepting = accepting;
    serve_at(&handlers, path);
    serve_at(&listener, "0");
    getsockname(listener.fd, (struct sockaddr *)&name, &size);
    printf("ready %d\n", ntohs(name.sin_port));
    fflush(stdout);
    serve(1e18, NULL, turned);
}
