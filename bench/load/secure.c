/* Clients over TLS and over WebSockets: `secure PORT TLS PLAN`, where TLS is `none`, `first`, or `after` a line of the
 * server's. Everything that is sent is in the file PLAN, which bench/secure.py writes. Commands come by lines on
 * standard input, and each is answered by one line of JSON:
 *
 *   add N    connects N more, one after the other; each sends a message and compares all of the answer
 *   start W  from now on each has W messages under way; replies are counted by their bytes
 *   mark     the time, the replies so far and this process's own processor time
 *   make W N the same as start, but N messages in all; answered when there are as many replies
 *
 * PLAN is a row of byte strings, each with its length before it (32 bits, little endian): the handshake that makes a
 * WebSocket or nothing, a text that the greeting contains, a ping or nothing and the answer to it; then for each
 * client what it says first, its message, and the answer to that, without the headers of WebSocket frames. An empty
 * message is not sent. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { READ = 65536, WAIT_MS = 30000 };

typedef struct { const uint8_t *at; size_t size; } Bytes;

typedef struct {
    int fd;
    SSL *ssl;
    Bytes message;
    size_t reply;     /* how many bytes answer a message */
    size_t have;      /* of the reply that is not complete */
    uint8_t head[10]; /* of a WebSocket frame that is not complete */
    int head_size;
    uint64_t body;    /* what is missing of a frame's data */
    int is_ping;
} Client;

static Client *clients;
static int count, room, epoll_fd, port, width, after_line;
static SSL_CTX *tls;
static Bytes upgrade, greeting, ping, pong;
static const uint8_t *plan, *plan_end;
static uint64_t replies, awaited; /* awaited: when `make` is answered; 0 if it is not under way */
static uint64_t left = UINT64_MAX; /* how many messages may still be sent */
static uint8_t input[READ], data[READ];

static void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    exit(1);
}

static Bytes next_bytes(void) {
    uint32_t size;
    if (plan_end - plan < 4) fail("the plan has no more clients");
    memcpy(&size, plan, 4);
    Bytes found = {plan + 4, size};
    plan += 4 + size;
    return found;
}

static void await(int fd, short events) {
    struct pollfd one = {.fd = fd, .events = events};
    if (poll(&one, 1, WAIT_MS) <= 0) fail("the server does not go on");
}

static void put(Client *client, const uint8_t *from, size_t size) {
    while (size) {
        ssize_t done;
        if (client->ssl) {
            ERR_clear_error();
            done = SSL_write(client->ssl, from, (int)size);
            if (done <= 0) {
                if (SSL_get_error(client->ssl, (int)done) != SSL_ERROR_WANT_WRITE) fail("a connection was lost");
                await(client->fd, POLLOUT);
                continue;
            }
        } else {
            done = send(client->fd, from, size, MSG_NOSIGNAL);
            if (done < 0) {
                if (errno != EAGAIN) fail("a connection was lost: %s", strerror(errno));
                await(client->fd, POLLOUT);
                continue;
            }
        }
        from += done;
        size -= (size_t)done;
    }
}

/* Returns how many bytes there were to read; 0 if there are none now. */
static size_t get(Client *client) {
    if (client->ssl) {
        ERR_clear_error();
        int got = SSL_read(client->ssl, input, READ);
        if (got > 0) return (size_t)got;
        if (SSL_get_error(client->ssl, got) == SSL_ERROR_WANT_READ) return 0;
        fail("a connection was lost");
    }
    ssize_t got = recv(client->fd, input, READ, 0);
    if (got > 0) return (size_t)got;
    if (got < 0 && errno == EAGAIN) return 0;
    fail("a connection was lost");
    return 0;
}

/* Copies the data of WebSocket frames, and answers their pings; returns its size. */
static size_t unframe(Client *client, size_t size) {
    size_t at = 0, out = 0;
    while (at < size) {
        if (client->body) {
            size_t part = size - at < client->body ? size - at : client->body;
            if (!client->is_ping) memcpy(data + out, input + at, part), out += part;
            at += part;
            client->body -= part;
            continue;
        }
        uint8_t *head = client->head;
        head[client->head_size++] = input[at++];
        int length = client->head_size < 2 ? 2 : head[1] < 126 ? 2 : head[1] == 126 ? 4 : 10;
        if (client->head_size < length) continue;
        client->head_size = 0;
        if (head[1] < 126) client->body = head[1];
        for (int i = 2; i < length; i++) client->body = client->body << 8 | head[i];
        client->is_ping = (head[0] & 15) == 9;
        if ((head[0] & 15) == 8) fail("the server closed a WebSocket");
        if (client->is_ping) put(client, (const uint8_t *)"\x8a\x80\0\0\0", 6);
    }
    return out;
}

/* Reads data, in `data`; returns its size, or 0 if there is nothing to read now. */
static size_t get_data(Client *client, int framed, int *drained) {
    size_t size = get(client);
    *drained = !size;
    if (!size) return 0;
    if (framed) size = unframe(client, size);
    else memcpy(data, input, size);
    if (ping.size && size >= ping.size) {
        uint8_t *found = memmem(data, size, ping.at, ping.size);
        if (found) {
            put(client, pong.at, pong.size);
            memmove(found, found + ping.size, size - ping.size - (size_t)(found - data));
            size -= ping.size;
        }
    }
    return size;
}

/* Reads until a text was there, and all that came with it. */
static void expect(Client *client, Bytes text, int framed) {
    uint8_t seen[READ];
    size_t have = 0;
    int found = 0, drained;
    for (;;) {
        size_t size = get_data(client, framed, &drained);
        if (drained) {
            if (found) return;
            await(client->fd, POLLIN);
            continue;
        }
        if (have + size > READ) fail("a greeting that is too long");
        memcpy(seen + have, data, size);
        have += size;
        found = memmem(seen, have, text.at, text.size) != NULL;
        if (memmem(seen, have, "\"bad\"", 5)) fail("refused: %.*s", (int)have, seen);
    }
}

/* Reads the answer to the handshake; what comes behind it are frames, which are thrown away so far. */
static void await_upgrade(Client *client) {
    uint8_t seen[READ], *end;
    size_t have = 0, size;
    do {
        while (!(size = get(client))) await(client->fd, POLLIN);
        if (have + size > READ) fail("an answer that is too long");
        memcpy(seen + have, input, size);
        have += size;
        end = memmem(seen, have, "\r\n\r\n", 4);
    } while (!end);
    end += 4;
    size = have - (size_t)(end - seen);
    memcpy(input, end, size);
    unframe(client, size);
}

static void compare(Client *client, Bytes reply, int framed) {
    size_t have = 0;
    int drained;
    while (have < reply.size) {
        size_t size = get_data(client, framed, &drained);
        if (drained) await(client->fd, POLLIN);
        if (size > reply.size - have || memcmp(data, reply.at + have, size))
            fail("a wrong reply: %.*s", (int)size, data);
        have += size;
    }
}

static void connect_one(void) {
    if (count == room) clients = realloc(clients, sizeof *clients * (size_t)(room = room ? 2 * room : 64));
    Client *client = &clients[count];
    memset(client, 0, sizeof *client);
    int on = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    client->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (client->fd < 0 || connect(client->fd, (struct sockaddr *)&address, sizeof address))
        fail("cannot connect: %s", strerror(errno));
    setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (tls) {
        char byte = 0;
        while (after_line && byte != '\n')
            if (read(client->fd, &byte, 1) != 1) fail("the server says nothing");
        client->ssl = SSL_new(tls);
        SSL_set_fd(client->ssl, client->fd);
        if (SSL_connect(client->ssl) != 1) fail("no TLS: %s", ERR_error_string(ERR_get_error(), NULL));
    }
    fcntl(client->fd, F_SETFL, O_NONBLOCK);
    if (upgrade.size) {
        put(client, upgrade.at, upgrade.size);
        await_upgrade(client);
    }
    int framed = upgrade.size > 0;
    Bytes hello = next_bytes(), message = next_bytes(), reply = next_bytes();
    put(client, hello.at, hello.size);
    expect(client, greeting, framed);
    client->message = message;
    client->reply = reply.size;
    if (message.size) {
        put(client, message.at, message.size);
        compare(client, reply, framed);
    }
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = (uint32_t)count};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, client->fd, &event);
    count++;
}

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void say(void) {
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    double own = (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec)
        + 1e-6 * (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec);
    printf("{\"clients\": %d, \"replies\": %llu, \"at\": %.6f, \"own\": %.6f}\n", count,
        (unsigned long long)replies, seconds(), own);
    fflush(stdout);
}

static void send_messages(Client *client, size_t number) {
    static uint8_t *batch;
    static size_t batch_room;
    if (number > left) number = left;
    if (left != UINT64_MAX) left -= number;
    if (!number) return;
    size_t size = client->message.size * number;
    if (size > batch_room) batch = realloc(batch, batch_room = size);
    for (size_t i = 0; i < number; i++) memcpy(batch + i * client->message.size, client->message.at, client->message.size);
    put(client, batch, size);
}

static void readable(Client *client) {
    int drained = 0;
    size_t done = 0;
    for (;;) {
        size_t size = get_data(client, upgrade.size > 0, &drained);
        if (drained) break;
        client->have += size;
        if (!client->ssl && size < READ / 2) break; /* a socket that had no more: save the call that says so */
        if (client->ssl && !SSL_has_pending(client->ssl)) break;
    }
    if (!client->reply || !width) { client->have = 0; return; }
    done = client->have / client->reply;
    client->have %= client->reply;
    replies += done;
    if (done) send_messages(client, done);
    if (awaited && replies == awaited) awaited = 0, say();
}

static void start(int messages, uint64_t in_all) {
    width = messages;
    left = in_all;
    for (int i = 0; i < count; i++) send_messages(&clients[i], (size_t)width);
}

static void command(const char *line) {
    int number = atoi(line + strcspn(line, " "));
    if (!strncmp(line, "add", 3)) {
        while (number-- > 0) connect_one();
    } else if (!strncmp(line, "start", 5)) {
        start(number, UINT64_MAX);
    } else if (!strncmp(line, "make", 4)) {
        uint64_t messages = strtoull(strrchr(line, ' '), NULL, 10);
        awaited = replies + messages;
        start(number, messages);
        return;
    }
    say();
}

int main(int argc, char **argv) {
    if (argc != 4) fail("secure PORT TLS PLAN");
    port = atoi(argv[1]);
    FILE *file = fopen(argv[3], "rb");
    if (!file) fail("no plan: %s", strerror(errno));
    fseek(file, 0, SEEK_END);
    size_t size = (size_t)ftell(file);
    rewind(file);
    uint8_t *all = malloc(size);
    if (fread(all, 1, size, file) != size) fail("the plan cannot be read");
    plan = all, plan_end = all + size;
    upgrade = next_bytes(), greeting = next_bytes(), ping = next_bytes(), pong = next_bytes();
    after_line = !strcmp(argv[2], "after");
    if (strcmp(argv[2], "none")) {
        tls = SSL_CTX_new(TLS_client_method()); /* which certificate it is does not matter here */
        SSL_CTX_set_mode(tls, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
        SSL_CTX_set_session_cache_mode(tls, SSL_SESS_CACHE_OFF);
    }
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = UINT32_MAX}, ready[256];
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, 0, &event);
    char line[100];
    for (;;) {
        int found = epoll_wait(epoll_fd, ready, 256, -1);
        for (int i = 0; i < found; i++) {
            if (ready[i].data.u32 != UINT32_MAX) readable(&clients[ready[i].data.u32]);
            else { /* a command is answered before the next one is sent: a read has one line */
                ssize_t got = read(0, line, sizeof line - 1);
                if (got <= 0) return 0;
                line[got] = 0;
                command(line);
            }
        }
    }
}
