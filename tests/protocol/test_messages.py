"""What a server receives, as typed values; and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import Raw

from bester.errors import BadArguments, BadResponse, HandlerFailed, Malformed, NotAllowed
from bester.protocol.answers import COMMANDS, check_status, commands_of
from bester.protocol.messages import (
    NOTHING,
    Ack,
    BadAnswer,
    Cancel,
    HandlerHeader,
    HandlerMessage,
    Header,
    Message,
    More,
    attach_data,
    checked_parts,
    decode_attach,
    decode_classic,
    decode_first,
    decode_handler_message,
    decode_message,
    decode_note_or_message,
    decode_scope,
)

NOTES = ("ack", "parts")


def answer(body: bytes) -> HandlerMessage:
    message = decode_handler_message(body)
    assert isinstance(message, HandlerMessage)
    return message


# -- from clients and servers -----------------------------------------------------------------------------------


def test_a_first_message() -> None:
    message = decode_first(
        b'{"header":{"scope":"client","features":["token","new"],"authentication":{"username":"t","password":"p"}},'
        b'"payload":{"type":"dummy","id":"1","data":null}}'
    )
    header = message.header
    assert (header.scope, header.features, header.hops, header.server) == ("client", ("token", "new"), 0, None)
    assert header.authentication is not None
    assert (header.authentication.username, header.authentication.password) == ("t", "p")
    assert header.authentication.token is None
    assert message.payload is not None
    assert (message.payload.type, message.payload.id, bytes(message.payload.data)) == ("dummy", "1", b"null")


def test_a_first_message_may_be_empty() -> None:
    message = decode_first(b" { } ")
    assert (message.header.scope, message.payload) == ("", None)
    assert decode_first(b'{"payload":null,"header":{}}').payload is None


def test_a_first_message_of_a_server() -> None:
    header = decode_first(b'{"header":{"scope":"server","hops":3,"server":"k.example","dryRun":true}}').header
    assert (header.scope, header.hops, header.server, header.dry_run) == ("server", 3, "k.example", True)


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b'{"header":null}',
        b'{"header":{"scope":null}}',
        b'{"header":{"scope":"client","authentication":{"username":1,"password":"p"}}}',
        b'{"header":{"scope":"client","authentication":{"username":"t","password":1}}}',
        b'{"header":{"scope":"client","authentication":{"password":"p"}}}',
        b'{"header":{"scope":"client","authentication":"t"}}',
        b'{"header":{"scope":"client","features":"token"}}',
        b'{"header":{"scope":"server","hops":"1"}}',
        b'{"header":{"scope":"server","hops":1.5}}',
        b'{"header":{"scope":"server"},"payload":[]}',
        b'{"header":{"scope":"server"},"payload":{"id":"1"}}',
    ],
)
def test_malformed_first_messages(body: bytes) -> None:
    with pytest.raises(Malformed):
        decode_first(body)


def test_scope() -> None:
    assert decode_scope(b'{"header":{"scope":"server","hops":"wrong"},"payload":5}') == "server"
    assert decode_scope(b"{}") == ""
    assert decode_scope(rb'{"header":{"scope":"client"},"payload":{"type":"t","data":"\ud800"}}') == "client"
    for wrong in (b"[]", b'{"header":{"scope":1}}', b'{"header":5}', b'{"data":NaN}', b'{"a":"\xff"}'):
        with pytest.raises(Malformed):
            decode_scope(wrong)


def test_a_later_message() -> None:
    message = decode_message(b'{"payload":{"type":"chat","id":"7","data":{ "to":"g" }}}')
    assert (message.payload.type, message.payload.id, bytes(message.payload.data)) == ("chat", "7", b'{ "to":"g" }')
    assert not message.header.route


def test_what_may_be_left_out() -> None:
    message = decode_message(b'{"header":{"scope":5,"authentication":[],"new":1},"payload":{"type":"","more":{}}}')
    assert (message.payload.type, message.payload.id, bytes(message.payload.data)) == ("", "", b"null")


def test_features_asked_for_in_a_later_message() -> None:
    header = decode_message(b'{"header":{"once":true,"route":true,"dryRun":true},"payload":{"type":"t"}}').header
    assert (header.once, header.route, header.dry_run) == (True, True, True)


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b'{"header":{}}',
        b'{"payload":null}',
        b'{"payload":{}}',
        b'{"payload":{"id":"10"}}',
        b'{"payload":{"type":null}}',
        b'{"payload":{"type":5}}',
        b'{"payload":{"type":"t","id":null}}',
        b'{"payload":{"type":"t","id":7}}',
        b'{"payload":{"type":"t"},"header":[]}',
        b'{"payload":{"type":"t"},"header":{"route":"yes"}}',
    ],
)
def test_malformed_later_messages(body: bytes) -> None:
    with pytest.raises(Malformed):
        decode_message(body)


def test_the_text_says_where() -> None:
    with pytest.raises(Malformed, match=r"^Object missing required field `type` - at `\$.payload`$"):
        decode_message(b'{"payload":{"id":"10"}}')


# -- from handlers ----------------------------------------------------------------------------------------------


def test_attach() -> None:
    message = decode_attach(b'{"header":{"scope":"handler"},"payload":{"type":"attach","data":{"types":["a","b"]}}}')
    data = attach_data(message.payload)
    assert (data.types, data.name, data.concurrency) == (["a", "b"], "", 64)
    for wrong in (b"[]", b'{"payload":{"type":"attach","id":1}}', b'{"payload":{"data":null}}'):
        with pytest.raises(Malformed):
            decode_attach(wrong)
    for told in (
        b"null",
        b"5",
        b"{}",
        b'{"types":[1]}',
        rb'{"types":["\ud800"]}',
        b'{"types":["a"],"concurrency":1e400}',
    ):
        with pytest.raises(BadArguments, match="data of attach"):
            attach_data(decode_attach(b'{"payload":{"type":"attach","data":%b}}' % told).payload)


def test_an_answer() -> None:
    message = answer(
        b'{"header":{"id":"1","status":"0","command":{"type":"sendClients","data":["g"],"transient":true,'
        b'"payload":{"type":"x","data":[ 1]}}},"payload":{"type":"chat","data":{"a" :1}},"data":null}'
    )
    assert (message.header.id, message.header.status, message.header.message_type) == ("1", "0", None)
    assert message.payload is not None
    assert (message.payload.type, bytes(message.payload.data), bytes(message.data)) == ("chat", b'{"a" :1}', b"null")
    (command,) = commands_of(message)
    assert (command.type, command.data, command.transient) == ("sendClients", ["g"], True)
    assert command.payload is not None
    assert (command.payload.type, bytes(command.payload.data)) == ("x", b"[ 1]")


def test_null_is_data_and_nothing_is_not() -> None:
    message = answer(b'{"header":{"id":"1"},"payload":{"data":null}}')
    assert message.payload is not None
    assert bytes(message.payload.data) == b"null"
    assert message.data == NOTHING
    message = answer(b'{"header":{"id":"1"},"payload":{}}')
    assert message.payload is not None
    assert len(message.payload.data) == 0
    assert message.payload.type is None


def test_answers_may_be_deeper_than_what_they_wrap() -> None:
    def wrapped(levels: int) -> bytes:
        return b'{"header":{"id":"1"},"payload":{"data":' + b"[" * (levels - 2) + b"]" * (levels - 2) + b"}}"

    assert answer(wrapped(136))
    with pytest.raises(BadAnswer) as caught:  # also the id is read no deeper
        decode_classic(wrapped(137))
    assert "136 levels" in caught.value.detail
    with pytest.raises(Malformed):
        decode_handler_message(wrapped(137))


def test_a_push() -> None:
    for body in (b'{"header":{"messageType":"push","id":"h1"}}', b'{"header":{"messageType":"push"}}'):
        assert answer(body).header.message_type == "push"


@pytest.mark.parametrize(
    "body",
    [
        b'{"payload":{"type":"detach","id":"a2"}}',
        b'{"header":{},"payload":{"type":"detach","id":"a2","data":null}}',
        b'{"header":{"messageType":"detach"},"payload":{"type":"detach","id":"a2"}}',
        rb'{"header":{},"payload":{"type":"detach","id":"a2","data":"\ud800"}}',
    ],
)
def test_detach(body: bytes) -> None:
    assert decode_handler_message(body) == "a2"


def test_detach_without_an_id() -> None:
    assert decode_handler_message(b'{"header":{},"payload":{"type":"detach"}}') == ""


@pytest.mark.parametrize(
    "body",
    [
        b'{"header":{"id":"7","status":"0","command":5}}',
        b'{"header":{"id":"7","status":"0","command":{"data":["g"]}}}',
        b'{"header":{"id":"7","status":"0","command":{"type":"sendClients","data":[1]}}}',
        b'{"header":{"id":"7","status":"0","command":{"type":"sendClients","data":{}}}}',
        b'{"header":{"id":"7","status":"0","commands":{}}}',
        b'{"header":{"id":"7","status":"0","commands":[null]}}',
        b'{"header":{"id":"7","status":1e400}}',
        b'{"header":{"id":"7","messageType":5}}',
        b'{"header":{"id":"7"},"payload":[]}',
        b'{"header":{"id":"7"},"payload":{"type":5}}',
        rb'{"header":{"id":"7","status":"\ud800"}}',
        rb'{"header":{"id":"7","command":5},"payload":{"data":"\ud800"}}',
    ],
)
def test_a_bad_answer_fails_one_request(body: bytes) -> None:
    with pytest.raises(BadAnswer) as caught:
        decode_handler_message(body)
    assert caught.value.id == "7"
    assert caught.value.detail
    assert caught.value.message == BadResponse.meaning
    with pytest.raises(BadAnswer) as caught:
        decode_classic(body)
    assert caught.value.id == ""


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"header":{}}',
        b'{"header":5}',
        b'{"header":{"id":5}}',
        b'{"header":{"id":null,"status":"0","command":{"type":"done"}}}',
        b'{"header":{"status":"0","command":{"type":"done"}}}',
        b'{"header":{"messageType":"statusReport"}}',
        b'{"header":{"id":"7"},"data":NaN}',
        b'{"header":{"id":"7"},"data":"\xff"}',
        b'{"header":{"id":"7"}}{}',
        b'{"header":{},"payload":{"type":"attach","id":"1"}}',
        b'{"header":{},"payload":{"type":"detach","id":1}}',
    ],
)
def test_anything_else_ends_the_handlers_connection(body: bytes) -> None:
    with pytest.raises(Malformed):
        decode_handler_message(body)


def test_a_bad_push_is_no_bad_answer() -> None:
    with pytest.raises(Malformed, match="command"):
        decode_handler_message(b'{"header":{"messageType":"push","id":"1","command":5}}')


def test_a_classic_answer() -> None:
    message = decode_classic(b'{"header":{"status":0,"command":{"type":"sendClients","data":["g"]}},"data":{"a":1}}')
    assert (message.header.id, message.header.status, bytes(message.data)) == (None, 0, b'{"a":1}')
    for wrong in (b"", b"[]", b"{}", b'{"header":{},"data":NaN}'):
        with pytest.raises(BadAnswer):
            decode_classic(wrong)


# -- commands and status ----------------------------------------------------------------------------------------


def commanding(commands: bytes) -> Any:
    return answer(b'{"header":{"id":"1","status":"0",' + commands + b"}}")


@pytest.mark.parametrize(
    ("commands", "types"),
    [
        (b'"command":{"type":"done"}', ["done"]),
        (b'"commands":[]', []),
        (b'"command":null,"commands":[{"type":"done","data":"x"}]', ["done"]),
        (b'"commands":null,"command":{"type":"reply","data":["x"]}', ["reply"]),
        (
            b'"commands":[{"type":"sendHandler","data":""},{"type":"sendServers","data":[]},{"type":"reply"}]',
            ["sendHandler", "sendServers", "reply"],
        ),
    ],
)
def test_commands(commands: bytes, types: list[str]) -> None:
    assert [command.type for command in commands_of(commanding(commands))] == types


@pytest.mark.parametrize(
    ("commands", "why"),
    [
        (b'"x":1', "header.command is missing"),
        (b'"command":null,"commands":null', "header.command is missing"),
        (b'"command":{"type":"done"},"commands":[]', "both command and commands"),
        (b'"command":{"type":"sendclients","data":["g"]}', "must be one of sendClients, sendServers, sendHandler"),
        (b'"command":{"type":""}', "must be one of"),
        (b'"command":{"type":"sendClients"}', "the data of sendClients must be a list of strings"),
        (b'"command":{"type":"sendClients","data":"g"}', "the data of sendClients must be a list of strings"),
        (b'"command":{"type":"sendServers","data":"g"}', "the data of sendServers must be a list of strings"),
        (b'"command":{"type":"sendHandler"}', "the data of sendHandler must be a string"),
        (b'"command":{"type":"sendHandler","data":["g"]}', "the data of sendHandler must be a string"),
        (b'"commands":[{"type":"done"},{"type":"sendHandler"}]', "the data of sendHandler"),
    ],
)
def test_commands_that_are_refused_as_a_whole(commands: bytes, why: str) -> None:
    with pytest.raises(BadResponse, match=why):
        commands_of(commanding(commands))


@pytest.mark.parametrize("type", ["builtin", "dummy"])
@pytest.mark.parametrize(
    "form",
    [
        '{"header":{"id":"1","command":{"type":"sendServers","data":["x"],"payload":{"type":"TYPE"}}}}',
        '{"header":{"id":"1","command":{"type":"sendServers","data":["x"]}},"payload":{"type":"TYPE"}}',
        '{"header":{"id":"1","command":{"type":"sendClients","data":["x"]}},"payload":{"type":"TYPE"}}',
        '{"header":{"id":"1","command":{"type":"reply"}},"payload":{"type":"TYPE"}}',
        '{"header":{"id":"1","command":{"type":"sendHandler","data":"TYPE"}}}',
        '{"header":{"messageType":"push","commands":[{"type":"done"},{"type":"sendHandler","data":"TYPE"}]}}',
    ],
)
def test_no_command_carries_a_type_of_the_servers_own(form: str, type: str) -> None:
    with pytest.raises(NotAllowed, match=f"the type {type}, which is the server's own"):
        commands_of(answer(form.replace("TYPE", type).encode()))


@pytest.mark.parametrize("command", ["sendClients", "sendServers", "sendHandler", "reply", "done"])
def test_commands_that_a_handler_may_not_use(command: str) -> None:
    asked = '"a"' if command == "sendHandler" else '["a"]'
    message = commanding(f'"commands":[{{"type":"done"}},{{"type":"{command}","data":{asked}}}]'.encode())
    assert [one.type for one in commands_of(message)] == ["done", command]
    without = {name: kind for name, kind in COMMANDS.items() if name != command}
    with pytest.raises(NotAllowed, match=f"may not use {command}"):
        commands_of(message, without)
    with pytest.raises(BadResponse):  # what is no command at all is not a question of who may
        commands_of(commanding(b'"command":{"type":"addAccount"}'), without)


@pytest.mark.parametrize("status", ["0", 0, 0.0])
def test_success(status: object) -> None:
    check_status(HandlerHeader(status=status))


@pytest.mark.parametrize("status", [None, "", "1", "00", 1, -1, 0.5, False, True, [], {}, "good", Raw(b"0")])
def test_everything_else_is_failure(status: object) -> None:
    with pytest.raises(HandlerFailed):
        check_status(HandlerHeader(status=status))


@pytest.mark.parametrize(
    ("body", "ids"),
    [
        (b'{"header":{"messageType":"ack"},"payload":{"ids":["1","2"]}}', ["1", "2"]),
        (b'{"payload":{"ids":5,"ids":["1"],"type":5,"data":"\\ud800"},"header":{"messageType":"ack"}}', ["1"]),
    ],
)
def test_an_ack_is_told_from_a_message(body: bytes, ids: list[str]) -> None:
    assert decode_note_or_message(body, NOTES) == Ack(ids)


@pytest.mark.parametrize("ids", [b"", b',"ids":null', b',"ids":[5]', rb',"ids":["\ud800"]'])
def test_an_ack_without_ids(ids: bytes) -> None:
    with pytest.raises(Malformed):
        decode_note_or_message(b'{"header":{"messageType":"ack"},"payload":{"type":"t"%b}}' % ids, NOTES)


@pytest.mark.parametrize(
    ("body", "note"),
    [
        (b'{"header":{"messageType":"more"},"payload":{"id":"7","parts":1}}', More("7", 1)),
        (b'{"payload":{"parts":65536,"id":""},"header":{"messageType":"more","parts":5}}', More("", 65_536)),
        (b'{"header":{"messageType":"cancel"},"payload":{"id":"7","type":5}}', Cancel("7")),
    ],
)
def test_a_note_is_told_from_a_message(body: bytes, note: More | Cancel) -> None:
    assert decode_note_or_message(body, NOTES) == note
    with pytest.raises(Malformed, match="type"):
        decode_note_or_message(body, ("ack",))


@pytest.mark.parametrize(
    "more",
    [
        b'"id":"7"',
        b'"parts":1',
        b'"id":7,"parts":1',
        *(b'"id":"","parts":%b' % n for n in (b"0", b"65537", b"true", b'"1"')),
    ],
)
def test_a_more_of_another_form(more: bytes) -> None:
    with pytest.raises(Malformed, match="a whole number from 1 to 65536"):
        decode_note_or_message(b'{"header":{"messageType":"more"},"payload":{%b}}' % more, NOTES)


@pytest.mark.parametrize("id", [b"", b'"id":null', b'"id":7'])
def test_a_cancel_without_id(id: bytes) -> None:
    with pytest.raises(Malformed, match="a cancel must be a string"):
        decode_note_or_message(b'{"header":{"messageType":"cancel"},"payload":{%b}}' % id, NOTES)


@pytest.mark.parametrize("parts", [0, 65_537, -1, True, "1", 1.0, [1], {}])
def test_how_many_parts_a_client_takes(parts: Any) -> None:
    assert checked_parts(1) == 1
    with pytest.raises(BadArguments, match="from 1 to 65536"):
        checked_parts(parts)


@pytest.mark.parametrize(
    "body",
    [
        b'{"payload":{"type":"t","data":"ack"}}',
        b'{"header":{"x":"ack","messageType":5},"payload":{"type":"t","id":"1","ids":5,"data":["\\ud800"]}}',
        b'{"header":{"x":"ack","once":true,"dryRun":true,"route":true,"traceparent":"t"},"payload":{"type":"a\\u00e9"}}',
        b'{"header":{"x":"ack"},"payload":{"type":5,"type":"t","id":[],"id":"\\ud83d\\ude00"}}',
    ],
)
def test_a_message_that_could_be_an_ack_is_the_same_message(body: bytes) -> None:
    found, wanted = decode_note_or_message(body, NOTES), decode_message(body)
    assert isinstance(found, Message)
    assert found.payload == wanted.payload
    assert all(getattr(found.header, name) == getattr(wanted.header, name) for name in Header.__struct_fields__)


@pytest.mark.parametrize(
    "payload",
    [b"{}", b'{"type":null}', b'{"type":"t","id":null}', rb'{"type":"\ud800"}', rb'{"type":"t","id":"\udc00"}', b"[]"],
)
def test_a_bad_message_is_none_where_it_could_be_an_ack(payload: bytes) -> None:
    body = b'{"header":{"x":"ack"},"payload":%b}' % payload
    with pytest.raises(Malformed):
        decode_message(body)
    with pytest.raises(Malformed):
        decode_note_or_message(body, NOTES)
