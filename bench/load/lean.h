/* What the generators in C share: connections that one loop of epoll serves, and the bytes that they are given.
 *
 * A program gives each connection a function that takes what has come. What is written goes to the kernel at once as
 * far as it has room, and the rest when it has. Nothing is closed in an orderly way, and memory is kept: a load ends
 * with its process, which waits to be ended, so that no server is busy with that while it is still measured.
 */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { READ_BYTES = 256 * 1024, REST_BYTES = 2 * 1024 * 1024, EVENTS = 1024 };

struct bytes {
    char *at;
    size_t size;
};

/* A connection, or a socket that listens. */
struct peer {
    int fd;
    /* Takes what it can use of what has come, and returns how much that was; 0: there must be more first. */
    size_t (*received)(struct peer *, char *data, size_t size);
    void (*lost)(struct peer *);
    /* Of a socket that listens: takes one connection. */
    void (*accepting)(struct peer *);
    struct bytes rest, unsent;
    size_t gone, room; /* how much of what was unsent the kernel has by now, and how much there is memory for */
    int full; /* the kernel has no room, and will tell when it has */
    int number;
    /* Of the message that is counted just now: how much of it is to come, and whether it is a ping. */
    size_t left;
    int pinged;
};

static int poller;

static _Noreturn void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    exit(1);
}

/* Says what is wrong, and the bytes that are. */
static inline _Noreturn void fail_with(const char *what, const char *data, size_t size) {
    fprintf(stderr, "%s: ", what);
    for (size_t each = 0; each < size; each++)
        fputc(data[each] >= ' ' ? data[each] : '.', stderr);
    fail("");
}

static void *room(void *old, size_t size) {
    void *found = realloc(old, size ? size : 1);
    if (!found)
        fail("no memory");
    return found;
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

/* -- the bytes that the driver hands over: each with its length before it, as in a frame -------------------------- */

static uint32_t length(const char *at) {
    const unsigned char *byte = (const unsigned char *)at;
    return byte[0] | (uint32_t)byte[1] << 8 | (uint32_t)byte[2] << 16 | (uint32_t)byte[3] << 24;
}

static FILE *script;

static inline struct bytes next_bytes(void) {
    char before[4];
    if (fread(before, 1, 4, script) != 4)
        fail("the script is too short");
    struct bytes found = {.size = length(before)};
    found.at = room(NULL, found.size);
    if (fread(found.at, 1, found.size, script) != found.size)
        fail("the script is too short");
    return found;
}

static inline void open_script(const char *path) {
    script = fopen(path, "rb");
    if (!script)
        fail("%s: %s", path, strerror(errno));
}

/* How long the first frame is with its prefix; 0: it is not all there. */
static size_t whole_frame(const char *data, size_t size) {
    if (size < 4)
        return 0;
    size_t end = 4 + (size_t)length(data);
    return end <= size ? end : 0;
}

static inline int has(struct bytes wanted, const char *data, size_t size) {
    return memmem(data, size, wanted.at, wanted.size) != NULL;
}

/* -- connections ------------------------------------------------------------------------------------------------- */

static void watch(struct peer *peer, uint32_t events, int change) {
    struct epoll_event event = {.events = events, .data.ptr = peer};
    if (epoll_ctl(poller, change, peer->fd, &event))
        fail("epoll: %s", strerror(errno));
}

static void opened(struct peer *peer, int fd) {
    int yes = 1;
    if (!poller) {
        poller = epoll_create1(0);
        signal(SIGPIPE, SIG_IGN);
    }
    peer->fd = fd;
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes); /* which a Unix socket refuses */
    watch(peer, EPOLLIN, EPOLL_CTL_ADD);
}

/* An address is the path of a Unix socket, or a port of 127.0.0.1. */
static int named(const char *address, int (*use)(int, const struct sockaddr *, socklen_t)) {
    struct sockaddr_un local = {.sun_family = AF_UNIX};
    struct sockaddr_in ip = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int is_path = *address == '/', fd = socket(is_path ? AF_UNIX : AF_INET, SOCK_STREAM, 0);
    ip.sin_port = htons((uint16_t)atoi(address));
    snprintf(local.sun_path, sizeof local.sun_path, "%s", address);
    if (use(fd, is_path ? (void *)&local : (void *)&ip, is_path ? sizeof local : sizeof ip))
        fail("%s: %s", address, strerror(errno));
    return fd;
}

static inline void dial(struct peer *peer, const char *address) { opened(peer, named(address, connect)); }

static inline void serve_at(struct peer *peer, const char *address) {
    int fd = named(address, bind);
    listen(fd, 1024);
    opened(peer, fd);
}

static void later(struct peer *peer, const char *data, size_t size) {
    if (peer->unsent.size + size > peer->room) {
        peer->room = 2 * (peer->unsent.size + size);
        peer->unsent.at = room(peer->unsent.at, peer->room);
    }
    memcpy(peer->unsent.at + peer->unsent.size, data, size);
    peer->unsent.size += size;
}

/* Returns how much the kernel took. To a peer that is gone nothing is written: what is read from it tells. */
static size_t written(struct peer *peer, const char *data, size_t size) {
    ssize_t sent = write(peer->fd, data, size);
    int full = sent < 0 ? errno == EAGAIN : (size_t)sent < size;
    if (full != peer->full)
        watch(peer, full ? EPOLLIN | EPOLLOUT : EPOLLIN, EPOLL_CTL_MOD);
    peer->full = full;
    return sent >= 0 ? (size_t)sent : full ? 0 : size;
}

static void flush(struct peer *peer) {
    struct bytes *unsent = &peer->unsent;
    if (unsent->size)
        peer->gone += written(peer, unsent->at + peer->gone, unsent->size - peer->gone);
    if (2 * peer->gone < unsent->size || !peer->gone)
        return;
    unsent->size -= peer->gone;
    memmove(unsent->at, unsent->at + peer->gone, unsent->size);
    peer->gone = 0;
}

static inline void send_now(struct peer *peer, const char *data, size_t size) {
    size_t sent = peer->unsent.size || !size ? 0 : written(peer, data, size);
    if (sent < size)
        later(peer, data + sent, size - sent);
}

static void read_from(struct peer *peer) {
    static char data[REST_BYTES + READ_BYTES];
    size_t size = peer->rest.size, used = 0;
    if (size)
        memcpy(data, peer->rest.at, size);
    ssize_t came = read(peer->fd, data + size, READ_BYTES);
    if (came < 0 && errno == EAGAIN)
        return;
    if (came <= 0) {
        peer->lost(peer);
        return;
    }
    size += (size_t)came;
    for (size_t taken = 1; taken && used < size; used += taken)
        taken = peer->received(peer, data + used, size - used);
    size -= used;
    if (size > REST_BYTES)
        fail("a message that is too long");
    peer->rest.size = size;
    if (size) {
        peer->rest.at = room(peer->rest.at, size);
        memcpy(peer->rest.at, data + used, size);
    }
}

/* Serves until then, or until something sets the flag. What is given is called at the end of each turn. */
static void serve(double until, const int *done, void (*turned)(void)) {
    static struct epoll_event events[EVENTS];
    double left;
    while (!(done && *done) && (left = until - now()) > 0) {
        int count = epoll_wait(poller, events, EVENTS, left < 3600 ? (int)(1e3 * left) + 1 : -1);
        for (int each = 0; each < count; each++) {
            struct peer *peer = events[each].data.ptr;
            if (events[each].events & EPOLLOUT)
                flush(peer);
            if (!(events[each].events & ~(uint32_t)EPOLLOUT))
                continue;
            if (peer->accepting)
                peer->accepting(peer);
            else
                read_from(peer);
        }
        if (turned)
            turned();
    }
}

/* -- what a client of each dialect does -------------------------------------------------------------------------- */

static struct bytes ping, pong, greeting;
static int framed;

static inline void read_dialect(void) {
    ping = next_bytes(), pong = next_bytes(), greeting = next_bytes();
    framed = next_bytes().size > 0;
}

/* Returns the length of the greeting; 0: it is not complete. */
static inline size_t greeting_size(const char *data, size_t size) {
    size_t end = framed ? whole_frame(data, size) : size;
    const char *found = end ? memmem(data, end, greeting.at, greeting.size) : NULL;
    if (framed && end && !found)
        fail_with("not greeted", data, end);
    return framed ? end : found ? (size_t)(found - data) + greeting.size : 0;
}

/* Answers a ping that is the next to come, and returns its length; 0: it is something else. */
static inline size_t answer_ping(struct peer *peer, const char *data, size_t size) {
    if (!ping.size || size < ping.size || memcmp(data, ping.at, ping.size))
        return 0;
    send_now(peer, pong.at, pong.size);
    return ping.size;
}

/* Returns how many messages of one known size have ended with this, and answers the pings between them. */
static inline int count_messages(struct peer *peer, size_t message, const char *data, size_t size) {
    int count = 0;
    for (size_t at = 0; at < size;) {
        if (!peer->left) {
            peer->pinged = ping.size && data[at] == *ping.at;
            peer->left = peer->pinged ? ping.size : message;
        }
        size_t step = peer->left < size - at ? peer->left : size - at;
        at += step;
        peer->left -= step;
        if (peer->left)
            break;
        if (peer->pinged)
            send_now(peer, pong.at, pong.size);
        else
            count++;
    }
    return count;
}

static inline int by_size(const void *one, const void *other) {
    double difference = *(const double *)one - *(const double *)other;
    return (difference > 0) - (difference < 0);
}
