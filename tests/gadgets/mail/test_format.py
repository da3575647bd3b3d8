"""The data format: what is sent is what is received, and no mail of a stranger makes the reader fail."""

from __future__ import annotations

import re
import time
from base64 import b64decode, b64encode
from contextlib import suppress

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from bester.gadgets.mail.compose import compose
from bester.gadgets.mail.delivering import key_of
from bester.gadgets.mail.message import (
    MAX_ATTACHMENTS,
    Address,
    Attachment,
    Invalid,
    Mail,
    Outgoing,
    address_of,
    checked_address,
    is_message_id,
    local_of,
)
from bester.gadgets.mail.parse import Unreadable, bounded, parse
from bester.protocol.names import username

patient = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
showable = st.characters(exclude_categories=["Cs", "Cc", "Cf", "Zl", "Zp", "Zs"]) | st.just(" ")
lines = st.text(showable, max_size=120).map(lambda text: " ".join(text.split()))
bodies = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=300)
tokens = st.text(st.sampled_from("abcXYZ019.-_!#$%&'*+/=?^`{|}~"), min_size=1, max_size=40)
ids = st.builds("<{}@{}>".format, tokens, tokens).filter(is_message_id)
words = st.text(st.sampled_from("abcz019+_-"), min_size=1, max_size=20)
addresses = st.builds("{}@{}.example".format, words, st.sampled_from(["a", "b-c", "x" * 60]))
named = st.builds(Address, addresses, lines)
types = st.sampled_from(["image/png", "text/plain", "text/html", "application/x-a+b", "audio/ogg"])
files = st.text(showable.filter(lambda char: char not in '/\\"'), max_size=60).map(lambda name: " ".join(name.split()))
attachments = st.builds(
    lambda content, name, type, id: Attachment(
        b64encode(content).decode(), name=name, type=type, size=len(content), content_id=id
    ),
    st.binary(max_size=200),
    files,
    types,
    st.just("") | ids.filter(lambda id: len(id) < 60),
)
outgoing = st.builds(
    Outgoing,
    to=st.lists(named, min_size=1, max_size=4),
    cc=st.lists(named, max_size=2),
    bcc=st.just([Address("hidden@secret.example")]),
    subject=lines,
    text=bodies,
    html=bodies,
    attachments=st.lists(attachments, max_size=3),
    in_reply_to=st.just("") | ids,
)


def unfolded(text: str) -> str:
    """A text as mail carries it: lines that end with a line feed, the last one too; empty ones alone are nothing."""
    joined = "\n".join(re.split("\r\n|\r|\n", text))
    return "" if not joined.strip("\n") else joined if joined.endswith("\n") else joined + "\n"


@patient
@given(outgoing, st.lists(ids, max_size=5))
@example(Outgoing(to=[Address("a@a.example", '=?utf-8?q?x?= "\\')], subject="=?utf-8?q?a=0D=0AX:_y?="), [])
@example(Outgoing(to=["a@a.example"], subject="é \\u0041 =?x", text=".\n..\nFrom x\n-- \n"), [])
def test_what_is_sent_is_what_is_received(mail: Outgoing, thread: list[str]) -> None:
    made = compose(mail, "t@a.example", thread, 100)
    assert b"secret" not in made.content
    assert re.fullmatch(rb"(?:[^\r\n]{0,998}\r\n)*[^\r\n]{0,998}", made.content)
    got = parse(made.content)
    assert got.message_id == made.message_id
    assert got.sender == [Address("t@a.example")]
    assert got.to == [Address(one) if isinstance(one, str) else one for one in mail.to]
    assert got.cc == mail.cc
    assert got.subject == mail.subject
    assert got.in_reply_to == ([mail.in_reply_to] if mail.in_reply_to else [])
    assert got.references == bounded(thread)
    assert (got.text, got.html) == (unfolded(mail.text), unfolded(mail.html))
    assert got.attachments == mail.attachments
    wire = msgspec.json.encode(got)
    assert msgspec.json.decode(wire, type=Mail) == got


fields = """From To Subject Date References Message-ID Content-Type Content-Disposition Content-ID
Content-Transfer-Encoding Reply-To Authentication-Results X"""
header_names = st.sampled_from(fields.split())
header_values = st.sampled_from(
    [
        b"multipart/mixed; boundary=b",
        b"multipart/mixed",
        b"message/rfc822",
        b"message/delivery-status",
        b"text/plain; charset=idna",
        b"text/html; charset=\xff",
        b"text/plain; charset*=utf-8''%ff; charset*0*=x",
        b"attachment; filename*0*=a'b'%zz; filename=\"..\\\\..\\x\"",
        b"base64",
        b"quoted-printable",
        b"x-uuencode",
        b"=?utf-8?b?/////w==?= =?x?q?=zz?= =?utf-16?b?2AA=?= =?punycode?q?a-b?=",
        b'"(<@,;:\\".[]> =?',
        b"Thu, 99 Foo 99999 99:99:99 +99999",
        b"<a@b> <<c>>",
    ]
) | st.binary(max_size=60)
pieces = st.sampled_from([b"--b\r\n", b"--b--\r\n", b"\r\n", b"begin 644 x\r\n", b"Content-Type: message/rfc822\r\n"])
strange = st.builds(
    lambda fields, body: b"".join(name.encode() + b": " + value + b"\r\n" for name, value in fields) + b"\r\n" + body,
    st.lists(st.tuples(header_names, header_values), max_size=8),
    st.lists(pieces | st.binary(max_size=60), max_size=12).map(b"".join),
)


@patient
@given(strange | st.binary(max_size=300))
def test_no_mail_makes_the_reader_fail(content: bytes) -> None:
    try:
        mail = parse(content)
    except Unreadable:
        return
    wire = msgspec.json.encode(mail)
    assert msgspec.json.decode(wire, type=Mail) == mail
    for line in (mail.subject, mail.message_id, *(one.name for one in mail.attachments)):
        assert not re.search("[\0-\x1f\x7f-\x9f]", line)
    for one in mail.attachments:
        assert "/" not in one.name
        assert len(b64decode(one.data)) == one.size
    key_of("t", content, mail)


@patient
@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20))
def test_every_account_has_an_address(text: str) -> None:
    try:
        account = username(text)
    except Exception:
        return
    address = address_of(account, "a.example")
    local, _, domain = address.rpartition("@")
    assert (local_of(local), domain) == (account, "a.example")
    try:
        checked_address(address, "to")
    except Invalid:
        assert not account.isascii()  # some scripts' marks stand in no address


def nested(depth: int) -> bytes:
    opened = b"".join(b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (n, n) for n in range(depth))
    return opened + b"\r\nx\r\n"


@pytest.mark.parametrize(
    "content",
    [
        nested(51),
        nested(20000),
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n\r\nx\r\n" * 2000,
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
        + b"--b\r\nContent-Disposition: attachment\r\n\r\nx\r\n" * (MAX_ATTACHMENTS + 1),
    ],
    ids=["deep", "very deep", "many parts", "many attachments"],
)
def test_what_is_too_much(content: bytes) -> None:
    with pytest.raises(Unreadable, match=r"55[24] 5\.6\.0"):
        parse(content)


@pytest.mark.parametrize(
    "content",
    [
        b"To: " + b"(" * 32000 + b"\r\n\r\n",
        b"To: " + b"<" * 32000 + b"\r\n\r\n",
        b'To: "' + b"\\" * 32000 + b"\r\n\r\n",
        b"To: " + b"a," * 900 + b"\r\n\r\n",
        b"Subject: " + b"=?utf-8?q?" * 3000 + b"\r\n\r\n",
        b"References: " + b"<" * 32000 + b"\r\n\r\n",
        b"Content-Type: text/plain; charset=punycode\r\n\r\n" + b"a-" * 200000,
        b"Content-Type: text/plain" + b"; a*0*=b" * 3000 + b"\r\n\r\n",
        b"Content-Disposition: attachment; filename=" + b'";' * 15000 + b"\r\n\r\n",
        b"X: y\r\n" * 20000 + b"\r\n",
        b"Content-Type: text/plain" + b";" * 32000 + b"\r\n\r\n",
        b"Content-Type: message/delivery-status\r\n\r\n" + b"a: b\r\n\r\n" * 100000,
        b"Content-Type: multipart/digest; boundary=b\r\n\r\n" + b"--b\r\n\r\na: b\r\n\r\n" * 20000,
    ],
    ids=range(13),
)
def test_nothing_takes_long(content: bytes) -> None:
    begun = time.process_time()
    with suppress(Unreadable):
        parse(content)
    assert time.process_time() - begun < 5


def test_text_in_other_character_sets() -> None:
    content = (
        b"Subject: =?iso-8859-1?Q?Gr=FC=DFe?= =?utf-8?b?w6Q=?= und =?utf-8?q?=C3?= =?utf-8?q?=A4?=\r\n"
        b'From: =?utf-8?q?J=C3=B6rg?= <j@x.example>, "a, b" <c@x.example>\r\n'
        b"To: J\xc3\xb6rg <j\xc3\xb6rg@x.example>\r\n"
        b"Content-Type: text/plain; charset=windows-1252\r\nContent-Transfer-Encoding: 8bit\r\n\r\n\x80 5\r\n"
    )
    mail = parse(content)
    assert mail.subject == "Grüßeä und ä"
    assert mail.sender == [Address("j@x.example", "Jörg"), Address("c@x.example", "a, b")]
    assert mail.to == [Address("jörg@x.example", "Jörg")]
    assert mail.text == "€ 5\n"


def test_a_mail_in_a_mail() -> None:
    inner = b"Subject: inner\r\n\r\ntext\r\n"
    content = (
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nsee below\r\n--b\r\n"
        b"Content-Type: message/rfc822\r\n\r\n" + inner + b"\r\n--b--\r\n"
    )
    mail = parse(content)
    assert mail.text == "see below"
    [one] = mail.attachments
    assert one.type == "message/rfc822"
    assert b"Subject: inner" in b64decode(one.data)
