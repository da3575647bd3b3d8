/* One message to many, in C: fan SCRIPT PORT SENDER CLIENTS SLOW WARM_UP SECONDS.
 *
 * The sender, which connects to an address of its own, has one message under way; the next goes out when all readers
 * have the one before, except the slow ones, which do not read. Each reader compares all of its first message, and
 * those after it are counted by their bytes. Of our server's reports on them each is looked at.
 *
 * The script begins as that of the clients. Then come what each reader gets, the sender's hello (empty if nothing
 * answers it), its message, something if that is reported on, and each reader's hello.
 */

#include "lean.h"

struct reader {
    struct peer peer; /* first, so that a reader is one */
    int greeted, checked;
};

static struct peer sender;
static struct bytes one, message;
static int clients, slow, reported, sender_greeted, waiting, someone_greeted;
static double sent, *latencies;
static size_t count, room_for;

static void send_next(void) {
    waiting = clients - slow + reported;
    sent = now();
    send_now(&sender, message.at, message.size);
}

static void arrived(void) {
    if (--waiting)
        return;
    if (count == room_for)
        latencies = room(latencies, (room_for = 2 * count + 1024) * sizeof *latencies);
    latencies[count++] = now() - sent;
    send_next();
}

static size_t greeted(int *flag, const char *data, size_t size) {
    size_t end = greeting_size(data, size);
    if (end)
        *flag = someone_greeted = 1;
    return end;
}

static size_t read_by_one(struct peer *peer, char *data, size_t size) {
    struct reader *reader = (struct reader *)peer;
    if (!reader->greeted)
        return greeted(&reader->greeted, data, size);
    if (reader->checked) {
        for (int more = count_messages(peer, one.size, data, size); more; more--)
            arrived();
        return size;
    }
    size_t pinged = answer_ping(peer, data, size);
    if (pinged || size < one.size)
        return pinged;
    if (memcmp(data, one.at, one.size))
        fail_with("a wrong message", data, one.size);
    reader->checked = 1;
    arrived();
    return one.size;
}

static size_t read_by_sender(struct peer *peer, char *data, size_t size) {
    if (!sender_greeted)
        return greeted(&sender_greeted, data, size);
    if (!reported) {
        size_t pinged = answer_ping(peer, data, size);
        return pinged ? pinged : size;
    }
    size_t end = whole_frame(data, size);
    if (end && !slow && !has(greeting, data, end))
        fail_with("reported bad", data, end);
    if (end)
        arrived();
    return end;
}

static void lost(struct peer *peer) { fail("reader %d, or the sender, lost its connection", peer->number); }

/* Connects, and waits for the greeting, if the hello is answered. */
static void join(struct peer *peer, const char *address, struct bytes hello) {
    someone_greeted = !hello.size;
    dial(peer, address);
    send_now(peer, hello.at, hello.size);
    serve(now() + 20, &someone_greeted, NULL);
    if (!someone_greeted)
        fail("reader %d, or the sender, was not greeted in 20 s", peer->number);
}

/* With little room in its kernel, so that what it does not read piles up at the server. */
static void stop_reading(struct peer *peer) {
    int size = 4096;
    setsockopt(peer->fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    epoll_ctl(poller, EPOLL_CTL_DEL, peer->fd, NULL);
}

int main(int argument_count, char **arguments) {
    if (argument_count != 8)
        fail("fan SCRIPT PORT SENDER CLIENTS SLOW WARM_UP SECONDS");
    open_script(arguments[1]);
    clients = atoi(arguments[4]), slow = atoi(arguments[5]);
    read_dialect();
    one = next_bytes();
    struct bytes hello = next_bytes();
    message = next_bytes();
    reported = next_bytes().size > 0;
    struct reader *readers = calloc((size_t)clients, sizeof *readers);
    for (int each = 0; each < clients; each++) {
        readers[each].peer.received = read_by_one;
        readers[each].peer.lost = lost;
        readers[each].peer.number = each;
        join(&readers[each].peer, arguments[2], next_bytes());
    }
    for (int each = 0; each < slow; each++)
        stop_reading(&readers[each].peer);
    sender.received = read_by_sender;
    sender.lost = lost;
    join(&sender, arguments[3], hello);
    send_next();
    serve(now() + atof(arguments[6]), NULL, NULL);
    if (!count)
        fail("nothing arrived at all");
    puts("begin");
    fflush(stdout);
    count = 0;
    double began = now();
    serve(began + atof(arguments[7]), NULL, NULL);
    double took = now() - began;
    if (!count)
        latencies[count++] = took; /* at least that long */
    qsort(latencies, count, sizeof *latencies, by_size);
    printf("{\"count\": %zu, \"seconds\": %.6f, \"p50Ms\": %.3f, \"maxMs\": %.3f}\n", count * (size_t)(clients - slow),
           took, 1e3 * latencies[count / 2], 1e3 * latencies[count - 1]);
    fflush(stdout);
    pause();
}
