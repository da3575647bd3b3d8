#include "bester.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define FIRST_PAUSE_MS 100
#define LONGEST_PAUSE_MS 5000

enum end { LOST, STOPPED };

static int signals[2]; /* a pipe: a byte in it says that a signal came, which poll() cannot miss */

static void on_signal(int number) {
    int before = errno;
    (void)number;
    if (write(signals[1], "", 1) < 0) errno = before; /* it is full: there is a byte in it already */
    errno = before;
}

void put(struct buffer *buffer, const void *bytes, size_t size) {
    if (buffer->size + size > buffer->room) {
        buffer->room = 2 * buffer->room + size + 256;
        buffer->at = realloc(buffer->at, buffer->room);
        if (buffer->at == NULL) {
            perror("realloc");
            exit(1);
        }
    }
    if (size > 0) memcpy(buffer->at + buffer->size, bytes, size);
    buffer->size += size;
}

void put_text(struct buffer *buffer, const char *text) { put(buffer, text, strlen(text)); }

void put_span(struct buffer *buffer, struct span part) { put(buffer, part.at, part.size); }

long frame_size(const char *at, size_t size) {
    const unsigned char *byte = (const unsigned char *)at;
    if (size < 4) return -1;
    uint32_t body = (uint32_t)byte[0] | (uint32_t)byte[1] << 8 | (uint32_t)byte[2] << 16 | (uint32_t)byte[3] << 24;
    if (body == 0 || body > MAX_BODY) return -2;
    return size - 4 < body ? -1 : (long)body;
}

/* Writes a frame; false where the connection is lost. A server reads answers whatever else it does. */
static bool send_frame(int fd, const struct buffer *body) {
    struct buffer frame = {0};
    uint32_t size = (uint32_t)body->size;
    unsigned char prefix[4];
    for (int i = 0; i < 4; i++) prefix[i] = (unsigned char)(size >> 8 * i & 255);
    put(&frame, prefix, 4);
    put(&frame, body->at, body->size);
    size_t sent = 0;
    while (sent < frame.size) {
        ssize_t more = write(fd, frame.at + sent, frame.size - sent);
        if (more > 0)
            sent += (size_t)more;
        else if (errno != EINTR)
            break;
    }
    bool whole = sent == frame.size;
    free(frame.at);
    return whole;
}

static bool send_text(int fd, const char *before, const char *type, const char *after) {
    struct buffer body = {0};
    put_text(&body, before);
    put_text(&body, type);
    put_text(&body, after);
    bool sent = send_frame(fd, &body);
    free(body.at);
    return sent;
}

static bool answer(int fd, struct span header, struct span payload, handle *handler) {
    struct request request = {json_member(payload, "type"), json_member(payload, "data"), json_member(header, "from"),
                              json_member(payload, "id")};
    struct buffer body = {0}, what = {0}, data = {0};
    if (request.data.at == NULL) request.data = (struct span){"null", 4};
    bool handled = handler(&request, &what, &data);
    put_text(&body, "{\"header\":{\"id\":");
    put_span(&body, json_member(header, "id"));
    if (handled) {
        put_text(&body, ",\"status\":\"0\",");
        put(&body, what.at, what.size);
        put_text(&body, "},\"payload\":{\"data\":");
        if (data.size > 0)
            put(&body, data.at, data.size);
        else
            put_text(&body, "null");
        put_text(&body, "}}");
    } else {
        put_text(&body, ",\"status\":\"1\"");
        if (what.size > 0) put_text(&body, ",");
        put(&body, what.at, what.size);
        put_text(&body, "}}");
    }
    bool sent = send_frame(fd, &body);
    free(body.at);
    free(what.at);
    free(data.at);
    return sent;
}

/* Serves one connection until it is lost, or until we were asked to stop and all is answered. */
static enum end converse(int fd, handle *handler, bool *attached) {
    struct buffer input = {0};
    bool stopping = false;
    enum end end = LOST;
    for (;;) {
        size_t at = 0;
        long size = -1;
        while (at < input.size && (size = frame_size(input.at + at, input.size - at)) >= 0) {
            struct span body = {input.at + at + 4, (size_t)size};
            struct span header = json_member(body, "header"), payload = json_member(body, "payload");
            struct span kind = json_member(header, "messageType");
            at += 4 + (size_t)size;
            if (json_is(kind, "request")) {
                if (!answer(fd, header, payload, handler)) goto out;
            } else if (json_is(kind, "statusReport")) {
                struct span id = json_member(payload, "id");
                bool good = json_is(json_member(header, "status"), "good");
                if (json_is(id, "attach")) {
                    *attached = good;
                    printf(good ? "attached\n" : "not attached: %.*s\n", (int)payload.size, payload.at);
                    fflush(stdout);
                } else if (json_is(id, "detach")) {
                    end = STOPPED; /* whatever was asked before is answered already */
                    goto out;
                }
            } else if (json_is(kind, "fatal")) {
                fprintf(stderr, "the server ended the connection: %.*s\n", (int)payload.size, payload.at);
                goto out;
            } else {
                fprintf(stderr, "not of the protocol: %.*s\n", (int)(body.size < 200 ? body.size : 200), body.at);
                goto out;
            }
        }
        if (size == -2) {
            fprintf(stderr, "not a frame of the protocol\n");
            goto out;
        }
        input.size -= at;
        if (at > 0) memmove(input.at, input.at + at, input.size);

        struct pollfd wait[2] = {{fd, POLLIN, 0}, {signals[0], POLLIN, 0}};
        if (poll(wait, stopping ? 1 : 2, -1) < 0) continue;
        if (!stopping && wait[1].revents) {
            stopping = true;
            end = STOPPED; /* if the server is gone before it reports */
            if (!*attached || !send_text(fd, "{\"header\":{},\"payload\":{\"type\":\"detach\",\"id\":\"detach\"", "", "}}"))
                goto out;
        }
        if (wait[0].revents) {
            char chunk[65536];
            ssize_t more = read(fd, chunk, sizeof chunk);
            if (more > 0)
                put(&input, chunk, (size_t)more);
            else if (more == 0 || errno != EINTR)
                goto out;
        }
    }
out:
    free(input.at);
    return end;
}

static int dial(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path) {
        errno = ENAMETOOLONG;
        return -1;
    }
    strcpy(address.sun_path, path);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) < 0) {
        int why = errno;
        close(fd);
        errno = why;
        return -1;
    }
    return fd;
}

int serve(const char *type, handle *handler) {
    const char *path = getenv("BESTER_HANDLERS");
    if (path == NULL || *path == '\0') path = "besterHandlers";
    if (pipe(signals) < 0) {
        perror("pipe");
        return 1;
    }
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
    for (int pause_ms = FIRST_PAUSE_MS;;) {
        int fd = dial(path);
        if (fd < 0) {
            fprintf(stderr, "%s: %s; trying again in %d ms\n", path, strerror(errno), pause_ms);
        } else {
            bool attached = false;
            char concurrency[64];
            snprintf(concurrency, sizeof concurrency, "\"],\"concurrency\":%d}}}", CONCURRENCY);
            enum end end = LOST;
            if (send_text(fd,
                          "{\"header\":{\"scope\":\"handler\"},"
                          "\"payload\":{\"type\":\"attach\",\"id\":\"attach\",\"data\":{\"types\":[\"",
                          type, concurrency))
                end = converse(fd, handler, &attached);
            close(fd);
            if (end == STOPPED) return 0;
            if (attached) pause_ms = FIRST_PAUSE_MS;
        }
        struct pollfd wait = {signals[0], POLLIN, 0};
        if (poll(&wait, 1, pause_ms) > 0) return 0;
        pause_ms = 2 * pause_ms < LONGEST_PAUSE_MS ? 2 * pause_ms : LONGEST_PAUSE_MS;
    }
}
