/* A handler of the type mytype: it answers every message with the message's own data. */
#include "bester.h"

#include <stdlib.h>

/* request->data is the data's JSON as it came; json_member() and json_text() look into it. */
static bool handle_message(const struct request *request, struct buffer *what, struct buffer *data) {
    put_text(what, "\"command\":{\"type\":\"reply\"}");
    put_span(data, request->data);
    return true;
}

int main(void) {
    const char *type = getenv("BESTER_TYPE"); /* JSON's special characters in it would need escapes */
    return serve(type != NULL && *type != '\0' ? type : "mytype", handle_message);
}
