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

from bester.protocol.names import username
from bester_gadgets.mail.compose import compose
from bester_gadgets.mail.delivering import key_of
from bester_gadgets.mail.message import (
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
from bester_gadgets.mail.parse import bounded, parse
from bester_gadgets.mail.parts import Unreadable


def nested(depth: int) -> bytes:
    opened = b"".join(b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (n, n) for n in range(depth))
    return opened + b"\r\nx\r\n"


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


ORDINARY = (
    b"Received: from mx.example (mx [192.0.2.7])\r\n\tby a.example; Thu, 1 Jan 2026 12:00:00 +0100\r\n"
    b'From: =?utf-8?q?J=C3=B6rg?= <j@x.example>\r\nTo: "a, b" <t@a.example>, g@a.example;\r\n'
    b"Subject: =?iso-8859-1?Q?Gr=FC=DFe?= =?utf-8?b?w6Q=?=\r\nDate: Thu, 1 Jan 2026 12:00:00 +0100\r\n"
    b"Message-ID: <1@x.example>\r\nReferences: <a@b> <c@d>\r\nMIME-Version: 1.0\r\n"
    b'Content-Type: multipart/mixed; boundary="b 1"\r\n\r\npreamble\r\n--b 1\r\n'
    b"Content-Type: multipart/alternative; boundary=b2\r\n\r\n--b2\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nGr=C3=BC=\r\n"
    b"--b2\r\nContent-Type: text/html; charset=latin1\r\n\r\n<p>\xfc\r\n--b2--\r\n--b 1\r\n"
    b"Content-Type: image/png; name*0*=utf-8''%c3%a4; name*1=b.png\r\nContent-Disposition: attachment;\r\n"
    b" filename*=utf-8''%c3%a4.png\r\nContent-Transfer-Encoding: base64\r\nContent-ID: <p@x>\r\n\r\nAAEC\r\n--b 1\r\n"
    b"Content-Type: message/rfc822\r\n\r\nSubject: inner\r\n\r\nx\r\n--b 1--\r\nepilogue\r\n"
)
NASTY = [
    *(
        b"\0",
        b"\xff",
        b"\xed\xa0\x80",
        b"\r",
        b"\n",
        b"\r\n\r\n",
        b"\t",
        b";",
        b'"',
        b"\\",
        b"(",
        b"<",
        b"@",
        b"%00",
        b"%zz",
        b"=?",
    ),
    *(
        b"charset=\0",
        b"charset=\xed\xa0\x80",
        b"charset*=\xff''%00",
        b"charset=hex",
        b"charset=undefined",
        b"=?u?b?\xc3\xa9?=",
    ),
    *(
        b"boundary*=\0''b",
        b"filename*=a\0b''%ff",
        b"filename*=utf-8'",
        b"base64",
        b"x-uuencode",
        b"=",
        b"99999999999999999999",
    ),
    *(
        b"=?\0?q?=zz?=",
        b"=?utf-16?b?2AA=?=",
        b"--b2",
        b"--b 1--",
        b"multipart/x",
        b"message/partial",
        b"Content-Type:",
        b":",
    ),
]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """An ordinary mail in which some things were changed, cut out or said twice."""
    mail = bytearray(ORDINARY)
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(mail)))
        end = min(len(mail), at + draw(st.integers(0, 40)))
        nasty = st.sampled_from(NASTY) | st.binary(max_size=8)
        mail[at:end] = draw(st.just(bytes(mail[at:end]) * 2) | nasty | nasty)
    return bytes(mail)


@settings(patient, max_examples=300)
@given(mutated() | strange | st.binary(max_size=300))
@example("Subject: =?utf-8?b?é?=\r\n\r\n".encode())
@example(b"Content-Type: multipart/mixed; boundary*=a\0b''c\r\n\r\n--c\r\n\r\nx\r\n")
@example(b"Content-Type: text/plain; charset*=a\0b''c\r\n\r\nx\r\n")
@example(b"Content-Type: text/plain; charset*\r\n\x80")
@example(b"\r\n\r\n")
@example(b"")
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


def test_a_line_that_is_no_field_begins_the_body() -> None:
    mail = parse("Content-Type: text/plain; charset=utf-8\r\nGrüße\r\n\r\nto all\r\n".encode())
    assert mail.text == "Grüße\n\nto all\n"


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


@pytest.mark.parametrize(
    "content",
    [
        nested(21),
        nested(240) + b"\r\n" * 500_000,
        nested(20000),
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n\r\nx\r\n" * 2000,
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
        + b"--b\r\nContent-Disposition: attachment\r\n\r\nx\r\n" * (MAX_ATTACHMENTS + 1),
        b"X: y\r\n" * 5000 + b"\r\n",
        b"X: " + b"y" * 200_000 + b"\r\n\r\n",
        b"Content-Type: text/plain" + b"; a=b" * 100 + b"\r\n\r\n",
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + (b"--b\r\nX: " + b"y" * 10_000 + b"\r\n\r\n") * 60,
    ],
    ids=[
        "deep",
        "deep and long",
        "very deep",
        "many parts",
        "many attachments",
        "many fields",
        "a long header",
        "many parameters",
        "long headers",
    ],
)
def test_what_is_too_much(content: bytes) -> None:
    with pytest.raises(Unreadable, match=r"55[24] 5\.(6\.0|3\.4)"):
        parse(content)


TEXT = b"Content-Type: text/plain"
DIGEST = b"Content-Type: multipart/digest; boundary=b\r\n\r\n"
SLOW = {
    "comments": b"To: " + b"(" * 32000 + b"\r\n\r\n",
    "brackets": b"To: " + b"<" * 32000 + b"\r\n\r\n",
    "escapes": b'To: "' + b"\\" * 32000 + b"\r\n\r\n",
    "addresses": b"To: " + b"a," * 900 + b"\r\n\r\n",
    "words": b"Subject: " + b"=?utf-8?q?" * 3000 + b"\r\n\r\n",
    "ids": b"References: " + b"<" * 32000 + b"\r\n\r\n",
    "a codec": TEXT + b"; charset=punycode\r\n\r\n" + b"a-" * 200000,
    "a codec by another name": TEXT + b'; charset="unicode escape"\r\n\r\n' + rb"\N{DIGIT ONE}" * 70000,
    "continued parameters": TEXT + b"; a*0*=b" * 3000 + b"\r\n\r\n",
    "quotes": b"Content-Disposition: attachment; filename=" + b'";' * 15000 + b"\r\n\r\n",
    "fields": b"X: y\r\n" * 20000 + b"\r\n",
    "parameters": TEXT + b";" * 32000 + b"\r\n\r\n",
    "a report": b"Content-Type: message/delivery-status\r\n\r\n" + b"a: b\r\n\r\n" * 100000,
    "a digest": DIGEST + b"--b\r\n\r\na: b\r\n\r\n" * 20000,
    "lines, deep": nested(19) + b"\n" * 1_000_000,
    "lines, too deep": nested(240) + b"\r\n" * 500_000,
    "almost boundaries": nested(19) + b"\n--b1x" * 150_000,
    "blanks after a boundary": nested(19) + (b"\n--b1" + b"\t" * 1000 + b"x") * 1000,
    "parts with parameters": b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
    + (b"--b\r\n" + TEXT + b"; a*0*='" * 49 + b"\r\nContent-Disposition: x" + b';"' * 49 + b"\r\n\r\n") * 900,
}


@pytest.mark.parametrize("content", SLOW.values(), ids=SLOW)
def test_nothing_takes_long(content: bytes) -> None:
    begun = time.process_time()
    with suppress(Unreadable):
        parse(content)
    assert time.process_time() - begun < 1  # each is at most a tenth of that on a slow machine


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


def test_parts_are_cut_as_the_library_cuts_them() -> None:
    """And nothing of them is lost or changed, line ends included."""
    mail = parse(ORDINARY)
    assert (mail.text, mail.html) == ("Grü", "<p>ü")
    assert [(one.type, one.name) for one in mail.attachments] == [("image/png", "ä.png"), ("message/rfc822", "")]
    assert [b64decode(one.data) for one in mail.attachments] == [b"\0\1\2", b"Subject: inner\r\n\r\nx"]
    assert (mail.subject, mail.date) == ("Grüßeä", "2026-01-01T12:00:00+01:00")
    # Parts without anything in between, without an end, and with a line where a field should be.
    odd = b"Content-Type: multipart/mixed; boundary=b\n\n--b\n--b\n\n--b\nhello\nyou\n--bc\n--b\nX: y\n"
    assert parse(odd).text == "hello\nyou\n--bc"
