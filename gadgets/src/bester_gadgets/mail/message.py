"""Defines the messages of type ``mail``: the data format of docs/mail.md, in both directions."""

from __future__ import annotations

import re
from base64 import b64decode
from binascii import Error as NotBase64
from typing import Annotated

from msgspec import Meta, Struct, ValidationError, field

from bester import Refuse
from bester.printable import escaped

TYPE = "mail"
RESULT_TYPE = "mail.result"

MAX_ADDRESS = 254
MAX_NAME = 200
MAX_SUBJECT = 998
MAX_ID = 250
MAX_REFERENCES = 20
MAX_ATTACHMENTS = 100
MAX_FILENAME = 200

# What would change how a line is read or shown: controls, line ends, bidirectional controls, half characters.
_UNSHOWABLE = "\x00-\x1f\x7f-\x9f\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff"
_unshowable = re.compile(f"[{_UNSHOWABLE}]")
_half = re.compile("[\ud800-\udfff]")
_message_id = re.compile(r"<[!-;=?-~]{1,248}>\Z").match
_media_type = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,63}/[a-z0-9][a-z0-9!#$&^_.+-]{0,63}\Z").match
_dot_atom = r"[\w!#$%&'*+/=?^`{|}~-]+(?:\.[\w!#$%&'*+/=?^`{|}~-]+)*"
_local_part = re.compile(_dot_atom + r'\Z|"(?:[^"\\\s]|\\[^\s])*"\Z').match
_domain = re.compile(r"[^\W_](?:[\w-]{0,61}[^\W_])?(?:\.[^\W_](?:[\w-]{0,61}[^\W_])?)*\Z").match


class Invalid(Refuse):
    """A mail cannot be sent as it stands; the text says where it is wrong, and what is allowed."""

    def __init__(self, message: str, code: str = "mail.invalid", *, temporary: bool = False) -> None:
        super().__init__(message, code=code, temporary=temporary)


class Address(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One address of a header."""

    address: str
    name: str = ""


class Attachment(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True, rename="camel"):
    """A file; ``data`` is base64."""

    data: str
    name: str = ""
    type: str = "application/octet-stream"
    size: int | None = None
    content_id: str = ""


class ReceivedFrom(Struct, frozen=True, omit_defaults=True, rename="camel"):
    """The side that handed a mail over, by our own facts: an account of this server, or a peer of the listener."""

    account: str = ""
    address: str = ""
    helo: str = ""
    tls: bool = False
    mail_from: str = ""


class Failure(Struct, frozen=True, omit_defaults=True):
    """A recipient that a mail did not reach."""

    address: str
    status: str
    """``refused`` or ``gaveUp``."""
    text: str
    code: int | None = None
    """The smarthost's."""


class Mail(Struct, kw_only=True, omit_defaults=True, rename="camel"):
    """The mail that a client receives. Members that have no value are left out."""

    kind: str
    """``mail`` or ``bounce``."""
    message_id: str = ""
    sender: list[Address] = field(default_factory=list, name="from")
    to: list[Address] = field(default_factory=list)
    cc: list[Address] = field(default_factory=list)
    reply_to: list[Address] = field(default_factory=list)
    subject: str = ""
    date: str = ""
    in_reply_to: list[str] = field(default_factory=list)
    references: list[str] = field(default_factory=list)
    text: str = ""
    html: str = ""
    attachments: list[Attachment] = field(default_factory=list)
    delivered_to: str = ""
    received_from: ReceivedFrom | None = None
    received_at: str = ""
    authentication_results: list[str] = field(default_factory=list)
    failed: list[Failure] = field(default_factory=list)


To = Annotated[list[str | Address], Meta(max_length=1000)]


class Outgoing(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """The mail that a client sends. An address is a string, or as it was received."""

    to: To = field(default_factory=list)
    cc: To = field(default_factory=list)
    bcc: To = field(default_factory=list)
    sender: str | Address | None = field(default=None, name="from")
    subject: str = ""
    text: str = ""
    html: str = ""
    attachments: Annotated[list[Attachment], Meta(max_length=MAX_ATTACHMENTS)] = field(default_factory=list)
    in_reply_to: str = ""
    references: Annotated[list[str], Meta(max_length=MAX_REFERENCES)] = field(default_factory=list)


class Result(Struct, kw_only=True, omit_defaults=True, rename="camel"):
    """The outcome that the sending session is told, as type ``mail.result``."""

    status: str
    """``queued``; a mail that is not has no result, but a report that says why."""
    id: str = ""
    """The sender's own tag of its message."""
    message_id: str = ""
    queue_id: int | None = None


# -- checks -----------------------------------------------------------------------------------------------------------


def checked_address(given: str | Address, where: str) -> Address:
    """Returns an address that can stand in a header and in a command.

    Raises:
        Invalid: it cannot; the text begins with ``where``.
    """
    one = Address(given) if isinstance(given, str) else given
    local, at, domain = one.address.rpartition("@")
    if len(one.address) > MAX_ADDRESS or not at or not _local_part(local) or not _domain(domain):
        raise Invalid(f"{where}: {shown(one.address)} is no address of the form local@domain")
    checked_line(one.address, where, MAX_ADDRESS)
    checked_line(one.name, f"{where}.name", MAX_NAME)
    return one


def checked_line(text: str, where: str, limit: int) -> str:
    """Returns a text that is one line of characters that can be shown.

    Raises:
        Invalid: it is not, as where it would begin another header.
    """
    if len(text) > limit:
        raise Invalid(f"{where}: at most {limit} characters are allowed, and there are {len(text)}")
    if found := _unshowable.search(text):
        raise Invalid(f"{where}: U+{ord(found[0]):04X} is not allowed: it must be one line without control characters")
    return text


def checked_body(text: str, where: str) -> str:
    """Returns a text that has a form in UTF-8.

    Raises:
        Invalid: it has half characters, or the NUL, which mail does not carry.
    """
    if "\0" in text or _half.search(text):
        raise Invalid(f"{where}: U+0000 and lone surrogates are not allowed")
    return text


def checked_id(id: str, where: str) -> str:
    """Returns a message's id.

    Raises:
        Invalid: it is none.
    """
    if not is_message_id(id):
        raise Invalid(f"{where}: {shown(id)} is no message id: <...> of at most {MAX_ID} visible ASCII characters")
    return id


def is_message_id(id: str) -> bool:
    """Says whether a text is the id of a message, in its angle brackets."""
    return _message_id(id) is not None


def checked_attachment(one: Attachment, where: str) -> tuple[str, bytes]:
    """Returns the media type and the content of an attachment.

    Raises:
        Invalid: it has no form in a mail.
    """
    checked_line(one.name, f"{where}.name", MAX_FILENAME)
    if one.content_id:
        checked_id(one.content_id, f"{where}.contentId")
    media_type = one.type.lower()
    if not _media_type(media_type) or media_type.startswith("multipart/"):
        raise Invalid(f"{where}.type: {shown(one.type)} is no media type such as image/png, or multipart")
    try:
        content = b64decode(one.data, validate=True)
    except (NotBase64, ValueError) as error:
        raise Invalid(f"{where}.data: it is not base64") from error
    if one.size is not None and one.size != len(content):
        raise Invalid(f"{where}.size: {one.size}, but the data has {len(content)} bytes")
    return media_type, content


def shown(text: str) -> str:
    """Returns a stranger's text as it can stand in an error: short, and with nothing that acts on a terminal."""
    return ascii(text) if len(text) <= 60 else ascii(text[:60]) + "..."


def printable(text: str, limit: int) -> str:
    """Returns a stranger's text on one line, cut, with what cannot be shown as its escapes."""
    line = escaped(" ".join(text.split()))
    return line if len(line) <= limit else line[: limit - 3] + "..."


# -- accounts and addresses -------------------------------------------------------------------------------------------


def address_of(account: str, domain: str) -> str:
    """Returns the address of an account, quoted where its name needs that."""
    plain = re.fullmatch(_dot_atom, account) is not None
    local = account if plain else '"' + re.sub(r'(["\\])', r"\\\1", account) + '"'
    return f"{local}@{domain}"


def local_of(local: str) -> str:
    """Returns the name that a local part stands for, without its quotes."""
    if len(local) >= 2 and local[0] == local[-1] == '"':
        return re.sub(r"\\(.)", r"\1", local[1:-1])
    return local


def invalid(error: ValidationError) -> Invalid:
    """Returns msgspec's words for data that has not the form of :class:`Outgoing`."""
    return Invalid(printable(str(error), 300))
