/* Clients in C: clients SCRIPT PORT CLIENTS OUTSTANDING WARM_UP SECONDS WINDOWS.
 *
 * Each client first sends one message and compares all of its answer; then the clock runs, and replies are counted by
 * their bytes, because they are known to be all of the same size. One write sends all messages that the replies of
 * one read make room for. The line "begin" says that the first window begins; each window ends with a line of JSON.
 *
 * The script: what the server pings with (or nothing) and what answers that, what a greeting has in it and whether it
 * is a frame; then of each client its hello, its message, and all of the reply.
 */

#include "lean.h"

struct client {
    struct peer peer; /* first, so that a client is one */
    struct bytes hello, messages, replies;
    size_t message_size;
    int greeted, checked, hot;
    double sent;
};

static int outstanding, waited_for, all_checked;
static long replies;
static double *latencies; /* of a single client with a single message under way */
static size_t latency_room;

/* Takes the greeting, then the whole answer to one message. */
static size_t check(struct client *client, const char *data, size_t size) {
    if (!client->greeted) {
        size_t end = greeting_size(data, size);
        if (end) {
            client->greeted = 1;
            send_now(&client->peer, client->messages.at, client->message_size);
        }
        return end;
    }
    size_t pinged = answer_ping(&client->peer, data, size);
    if (pinged)
        return pinged;
    if (client->checked)
        fail_with("more than the reply", data, size);
    if (size < client->replies.size)
        return 0;
    if (memcmp(data, client->replies.at, client->replies.size))
        fail_with("a wrong reply", data, size);
    client->checked = 1;
    all_checked = --waited_for == 0;
    return client->replies.size;
}

static void measure_latency(struct client *client) {
    double time = now();
    if ((size_t)replies > latency_room)
        latencies = room(latencies, (latency_room = 2 * (size_t)replies + 1024) * sizeof *latencies);
    latencies[replies - 1] = time - client->sent;
    client->sent = time;
}

static size_t received(struct peer *peer, char *data, size_t size) {
    struct client *client = (struct client *)peer;
    if (!client->hot)
        return check(client, data, size);
    int count = count_messages(peer, client->replies.size, data, size);
    if (count > outstanding)
        fail("more replies than messages");
    replies += count;
    if (latencies && count)
        measure_latency(client);
    send_now(peer, client->messages.at, (size_t)count * client->message_size);
    return size;
}

static void lost(struct peer *peer) { fail("client %d lost its connection", peer->number); }

static void prepare(struct client *client, int number) {
    client->hello = next_bytes();
    struct bytes message = next_bytes();
    client->replies = next_bytes();
    client->message_size = message.size;
    client->messages = (struct bytes){room(NULL, message.size * (size_t)outstanding), message.size * (size_t)outstanding};
    for (int each = 0; each < outstanding; each++)
        memcpy(client->messages.at + (size_t)each * message.size, message.at, message.size);
    client->peer.received = received;
    client->peer.lost = lost;
    client->peer.number = number;
}

static void measure(double seconds) {
    double began = now();
    replies = 0;
    serve(began + seconds, NULL, NULL);
    double took = now() - began, p50 = 0;
    if (!replies)
        fail("there was no reply");
    if (latencies) {
        qsort(latencies, (size_t)replies, sizeof *latencies, by_size);
        p50 = latencies[replies / 2];
    }
    printf("{\"count\": %ld, \"seconds\": %.6f, \"p50Us\": %.3f}\n", replies, took, 1e6 * p50);
    fflush(stdout);
}

int main(int count, char **arguments) {
    if (count != 8)
        fail("clients SCRIPT PORT CLIENTS OUTSTANDING WARM_UP SECONDS WINDOWS");
    open_script(arguments[1]);
    int clients = atoi(arguments[3]), windows = atoi(arguments[7]);
    outstanding = atoi(arguments[4]);
    read_dialect();
    waited_for = clients;
    struct client *all = calloc((size_t)clients, sizeof *all);
    for (int each = 0; each < clients; each++) {
        prepare(&all[each], each);
        dial(&all[each].peer, arguments[2]);
        send_now(&all[each].peer, all[each].hello.at, all[each].hello.size);
    }
    serve(now() + 20, &all_checked, NULL);
    if (!all_checked)
        fail("%d clients got no reply in 20 s", waited_for);
    if (clients * outstanding == 1)
        latencies = room(NULL, sizeof *latencies);
    for (int each = 0; each < clients; each++) {
        all[each].hot = 1;
        all[each].sent = now();
        send_now(&all[each].peer, all[each].messages.at, all[each].messages.size);
    }
    serve(now() + atof(arguments[5]), NULL, NULL);
    puts("begin");
    fflush(stdout);
    while (windows--)
        measure(atof(arguments[6]));
    pause();
}
