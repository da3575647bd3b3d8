"""Properties of chat's own formats: what is written is read again, and nothing else is taken."""

from __future__ import annotations

from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bester_gadgets.chat import wire
from bester_gadgets.chat.addresses import Address, BadChatAddress, parse, parse_person, parse_room

names = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=20).map(str.lower)
servers = st.sampled_from(["a.example", "b.example", "x", "very.long.name.example"])
people = st.builds("{}@{}".format, names, servers)
rooms = st.builds("#{}@{}".format, names, servers)
ids = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=64)
texts = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1, max_size=200).filter(str.strip)
topics = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), max_size=wire.MAX_TOPIC)
numbers = st.integers(0, 2**53)
some = st.lists(people, max_size=5)
does = st.sampled_from(get_args(wire.Does))
marks = st.sampled_from(get_args(wire.Mark))
tags = st.text(st.characters(exclude_categories=["Cs"]), max_size=64)
maybe = st.none() | people

client_ops = st.one_of(
    st.builds(wire.Hello, ask=tags, sender=maybe),
    st.builds(wire.Sync, since=numbers, ask=tags),
    st.builds(wire.Send, to=people | rooms, id=ids, text=texts, sender=maybe),
    st.builds(wire.History, with_=people | rooms, before=st.none() | numbers, limit=st.integers(1, wire.MAX_PAGE)),
    st.builds(wire.MarkOp, with_=people | rooms, state=marks, upto=numbers),
    st.builds(wire.Block, who=people | servers, on=st.booleans()),
    st.builds(wire.Create, room=rooms, topic=topics, open=st.booleans()),
    st.builds(wire.RoomOp, do=does, room=rooms, who=maybe, topic=st.none() | topics),
    st.builds(wire.Members, room=rooms),
)
server_ops = st.one_of(
    st.builds(wire.Say, key=ids, sender=people, to=people | rooms, id=ids, time=numbers, text=texts),
    st.builds(wire.Said, key=ids, room=rooms, n=numbers, sender=people, id=ids, time=numbers, text=texts),
    st.builds(wire.Marks, key=ids, sender=people, to=people, with_=people | rooms, state=marks, ids=st.lists(ids)),
    st.builds(wire.Ask, key=ids, do=does, sender=people, room=rooms, who=maybe, topic=st.none() | topics),
    st.builds(
        wire.RoomState,
        key=ids,
        room=rooms,
        version=numbers,
        topic=topics,
        owner=people,
        open=st.booleans(),
        members=some,
    ),
    st.builds(wire.Invited, key=ids, room=rooms, to=people, by=people, topic=topics),
    st.builds(wire.Got, keys=st.lists(ids, max_size=5), refused=st.sampled_from(["", "full"])),
    st.builds(wire.Presence, to=some, people=st.lists(st.builds(wire.Online, people, st.booleans()), max_size=5)),
    st.builds(wire.Probe, of=some, sender=people),
)
entries = st.builds(
    wire.Entry,
    pos=numbers,
    with_=people | rooms,
    sender=people,
    id=ids,
    time=numbers,
    text=texts,
    state=st.none() | st.sampled_from(wire.STATES),
)
talks = st.builds(wire.Talk, with_=people | rooms, last=numbers, unread=numbers, preview=topics, members=numbers)
told = st.one_of(
    st.builds(wire.EntryEvent, since=numbers, seq=numbers, entry=entries),
    st.builds(
        wire.StatesEvent,
        with_=people,
        items=st.lists(st.tuples(numbers, st.sampled_from(wire.STATES)), max_size=3),
    ),
    st.builds(wire.TalkEvent, since=numbers, seq=numbers, talk=talks),
    st.builds(wire.PresenceEvent, people=st.lists(st.builds(wire.Online, people, st.booleans()), max_size=5)),
    st.builds(wire.BlockedEvent, blocked=some),
    st.builds(wire.NoticeEvent, with_=rooms, problem=st.builds(wire.Problem, code=names, message=topics)),
    st.builds(wire.Answer, ask=tags, seq=numbers, talks=st.lists(talks, max_size=3), entry=entries, upto=numbers),
)
json_values: Any = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=4,
)
BRIEFLY = settings(max_examples=40, deadline=None)


@BRIEFLY
@given(client_ops)
def test_what_accounts_ask_is_read_again(op: wire.ClientOp) -> None:
    assert wire.read_client_op(wire.encode(op)) == op


@BRIEFLY
@given(server_ops)
def test_what_servers_say_is_read_again(op: wire.ServerOp) -> None:
    assert wire.read_server_op(wire.encode(op)) == op


@BRIEFLY
@given(told)
def test_what_is_told_is_read_again(event: wire.Told) -> None:
    assert wire.read_told(wire.encode(event)) == event


@BRIEFLY
@given(st.one_of(client_ops, server_ops), st.sampled_from(["op", "text", "to", "v", "key", "id"]), json_values)
def test_anything_else_is_refused_and_nothing_breaks(op: Any, name: str, value: Any) -> None:
    tree = msgspec.json.decode(wire.encode(op)) | {name: value}
    for read in (wire.read_client_op, wire.read_server_op):
        try:
            found = read(msgspec.json.encode(tree))
        except wire.BadMessage:
            continue
        assert wire.encode(found)


@given(st.binary(max_size=80))
def test_bytes_are_refused(raw: bytes) -> None:
    with pytest.raises(wire.BadMessage):
        wire.read_client_op(raw)


@pytest.mark.parametrize(
    "text", ["", " ", "\n", "a\x1b[2Jb", "a\x00b", "a\x07", "a\x85", "a\u2028b", "x" * (wire.MAX_TEXT + 1)]
)
def test_texts_that_are_refused(text: str) -> None:
    with pytest.raises(wire.BadMessage):
        wire.read_client_op(wire.encode({"op": "send", "to": "g@a.example", "id": "1", "text": text}))


@pytest.mark.parametrize("id", ["", "a b", "a\n", "é", "x" * 65])
def test_ids_that_are_refused(id: str) -> None:
    with pytest.raises(wire.BadMessage):
        wire.read_client_op(wire.encode({"op": "send", "to": "g@a.example", "id": id, "text": "hello"}))


def test_a_version_that_is_not_known_is_refused() -> None:
    with pytest.raises(wire.BadMessage):
        wire.read_client_op(b'{"op":"hello","v":2}')


def test_fields_that_are_not_known_are_passed_over() -> None:
    assert wire.read_client_op(b'{"op":"hello","later":{"x":1}}') == wire.Hello()
    assert wire.read_told(b'{"op":"dance","seq":5}') is None


@given(names, servers, st.booleans())
def test_addresses_have_one_spelling(name: str, server: str, room: bool) -> None:
    address = Address(name, server, room)
    assert parse(str(address)) == address
    assert parse(str(address).upper()) == address
    assert (parse_room if room else parse_person)(str(address)) == address
    with pytest.raises(BadChatAddress):
        (parse_person if room else parse_room)(str(address))


@given(st.text(max_size=30))
def test_any_text_is_an_address_or_refused(text: str) -> None:
    try:
        address = parse(text, "a.example")
    except BadChatAddress:
        return
    assert parse(str(address)) == address


@pytest.mark.parametrize("text", ["", "@a.example", "g@", "g@-x", "#@a.example", "#a b@a.example", "##a@a.example"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(BadChatAddress):
        parse(text, "a.example")
