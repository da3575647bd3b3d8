/* make test: the reading of JSON and of frames, and the program ./handler at a server that is played here. */
#include "bester.h"

#undef NDEBUG
#include <assert.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>


static struct span text(const char *json) { return (struct span){json, strlen(json)}; }

static bool same(struct span part, const char *json) {
    return part.at != NULL && part.size == strlen(json) && memcmp(part.at, json, part.size) == 0;
}

static void test_members(void) {
    struct span all = text("{\"x\": {\"data\": 1}, \"d\\u0061ta\": [1, \"}\\\"\\\\\", {\"data\": 2}] , \"n\":1e400}");
    assert(same(json_member(all, "data"), "[1, \"}\\\"\\\\\", {\"data\": 2}]"));
    assert(same(json_member(json_member(all, "x"), "data"), "1"));
    assert(same(json_member(all, "n"), "1e400"));
    assert(json_member(all, "none").at == NULL);
    assert(same(json_member(text("{\"a\":1,\"a\":2}"), "a"), "2"));
    const char *wrong[] = {"", "[]", "null", "{\"a\":1", "{\"a\":[1}", "{\"a\":\"}", "\"a\"", "}", "{\"a\":1}}", "x{}"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) assert(json_member(text(wrong[i]), "a").at == NULL);
}

static void test_depth(void) {
    for (int deep = JSON_DEPTH - 1; deep <= JSON_DEPTH; deep++) {
        char json[2 * JSON_DEPTH + 16] = "{\"a\":";
        for (int i = 0; i < deep; i++) strcat(json, "[");
        for (int i = 0; i < deep; i++) strcat(json, "]");
        strcat(json, "}");
        assert((json_member(text(json), "a").at != NULL) == (deep < JSON_DEPTH));
    }
}

static void test_texts(void) {
    char out[32];
    assert(json_text(text("\"m\\u00f4re \\ud83d\\ude00\\n\""), out, sizeof out) == 11);
    assert(strcmp(out, "m\303\264re \360\237\230\200\n") == 0);
    assert(json_text(text("\"\\ud83d!\""), out, sizeof out) == 4 && strcmp(out, "\357\277\275!") == 0);
    assert(json_text(text("\"abc\""), out, 4) == 3);
    assert(json_text(text("\"abc\""), out, 3) == -1);
    assert(json_text(text("\"\\u12\""), out, sizeof out) == -1);
    assert(json_text(text("12"), out, sizeof out) == -1);
    assert(json_is(text("\"\\u0072eply\""), "reply") && !json_is(text("\"reply\\u0000\""), "reply"));
}

static void test_frames(void) {
    assert(frame_size("\2\0\0\0{}", 6) == 2);
    for (size_t size = 0; size < 6; size++) assert(frame_size("\2\0\0\0{}", size) == -1);
    assert(frame_size("\0\0\0\0", 4) == -2);
    assert(frame_size("\377\377\377\377", 4) == -2);
}

/* -- the program, at a server ------------------------------------------------------------------------------------ */

static void send_body(int fd, const char *body) {
    unsigned char size[4] = {(unsigned char)(strlen(body) & 255), (unsigned char)(strlen(body) >> 8), 0, 0};
    assert(write(fd, size, 4) == 4);
    assert(write(fd, body, strlen(body)) == (ssize_t)strlen(body));
}

static struct span receive(int fd) {
    static char body[4096];
    for (size_t size = 0;;) {
        ssize_t more = read(fd, body + size, 1); /* not a byte more than this frame */
        assert(more == 1);
        size++;
        if (frame_size(body, size) >= 0) return (struct span){body + 4, size - 4};
    }
}

static void test_program(void) {
    char folder[] = "/tmp/handler-XXXXXX";
    assert(mkdtemp(folder) != NULL);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s/s", folder);
    int listener = socket(AF_UNIX, SOCK_STREAM, 0);
    assert(bind(listener, (struct sockaddr *)&address, sizeof address) == 0 && listen(listener, 1) == 0);
    setenv("BESTER_HANDLERS", address.sun_path, 1);
    pid_t child = fork();
    if (child == 0) {
        execl("./handler", "./handler", (char *)NULL);
        _exit(127);
    }
    int fd = accept(listener, NULL, NULL);
    assert(json_is(json_member(json_member(receive(fd), "header"), "scope"), "handler"));
    send_body(fd, "{\"header\":{\"messageType\":\"statusReport\",\"status\":\"good\"},\"payload\":{\"id\":\"attach\"}}");
    send_body(fd, "{\"header\":{\"messageType\":\"request\",\"id\":\"1\"},\"payload\":{\"type\":\"t\",\"data\":[ 1.50]}}");
    struct span got = receive(fd);
    assert(json_is(json_member(json_member(got, "header"), "id"), "1"));
    assert(json_is(json_member(json_member(got, "header"), "status"), "0"));
    assert(same(json_member(json_member(got, "payload"), "data"), "[ 1.50]"));
    assert(kill(child, SIGTERM) == 0);
    assert(json_is(json_member(json_member(receive(fd), "payload"), "type"), "detach"));
    send_body(fd, "{\"header\":{\"messageType\":\"statusReport\",\"status\":\"good\"},\"payload\":{\"id\":\"detach\"}}");
    int status;
    assert(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    close(fd);
    close(listener);
    unlink(address.sun_path);
    rmdir(folder);
}

int main(void) {
    alarm(20); /* whatever goes wrong, it ends */
    test_members();
    test_depth();
    test_texts();
    test_frames();
    test_program();
    puts("all tests passed");
    return 0;
}
