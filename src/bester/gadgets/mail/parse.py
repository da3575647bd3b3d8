"""Makes the JSON form of docs/mail.md out of a mail as it came over the wire (RFC 5322, MIME).

A mail is a stranger's work. What cannot be read in it is left out or replaced, and never raises; what is more than the
bounds is refused as a whole.
"""

from __future__ import annotations

import re
from base64 import b64encode
from binascii import Error as NotBase64
from binascii import a2b_base64
from collections.abc import Iterator
from datetime import UTC, datetime
from email import message_from_bytes
from email.message import Message
from email.policy import compat32
from email.quoprimime import header_decode
from email.utils import getaddresses, parsedate_to_datetime

from bester.clock import wall_time
from bester.gadgets.mail.message import (
    MAX_ATTACHMENTS,
    MAX_FILENAME,
    MAX_REFERENCES,
    Address,
    Attachment,
    Mail,
    is_message_id,
)

MAX_HEADER_BYTES = 128 * 1024
MAX_FIELD_BYTES = 32 * 1024
MAX_PARAMETERS_BYTES = 4 * 1024
"""Of a field that says what a part is."""
MAX_PARTS = 1000
MAX_DEPTH = 50
MAX_CONTAINERS = 250
"""Parts that contain others, mails in mails among them."""
MAX_BLOCKS = 5000
"""Empty lines of a mail with a report on deliveries, which has one for each recipient."""
MAX_ADDRESSES = 1000
MAX_HOPS = 100

_CONTAINER = re.compile(rb"(?im)^content-type:\s*(?:multipart|message)/")
_ID = re.compile(r"<[^<>\s]+>")
_WORD = re.compile(r"=\?([\w.:+*-]{1,64})\?([bBqQ])\?([^?\s]*)\?=", re.ASCII)
_UNSHOWABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
# Codecs that are no character sets of mail: they take long, or make half characters.
_NO_CHARSETS = frozenset({"idna", "punycode", "unicode_escape", "raw_unicode_escape", "undefined", "mbcs", "oem"})


class Unreadable(Exception):
    """A mail is beyond what is taken; ``status`` is the SMTP reply."""

    def __init__(self, status: str) -> None:
        super().__init__(status)
        self.status = status


def parse(content: bytes) -> Mail:
    """Returns what a mail says; who handed it over is for the caller to add.

    Raises:
        Unreadable: it goes beyond a bound.
    """
    head = header_of(content)
    if len(head) > MAX_HEADER_BYTES:
        raise Unreadable(f"552 5.3.4 the header is larger than {MAX_HEADER_BYTES} bytes")
    # The library takes ever longer, the deeper they are nested, and the more there is to a report.
    blocks = content.count(b"\n\r\n") + content.count(b"\n\n") if b"delivery-status" in content.lower() else 0
    if len(_CONTAINER.findall(content)) > MAX_CONTAINERS or blocks > MAX_BLOCKS:
        raise Unreadable("554 5.6.0 the mail is nested too deeply, or has too many parts")
    try:
        message = message_from_bytes(content, policy=compat32)
        if sum(name.lower() == "received" for name, _ in message.raw_items()) > MAX_HOPS:
            raise Unreadable("554 5.4.6 the mail goes round in a loop: it has too many Received fields")
        return _read(message)
    except RecursionError as error:
        raise Unreadable("554 5.6.0 the mail is nested too deeply") from error


def header_of(content: bytes) -> bytes:
    """Returns the header of a mail, up to the empty line."""
    ends = [end for mark in (b"\r\n\r\n", b"\n\n") if (end := content.find(mark)) >= 0]
    return content[: min(ends)] if ends else content


def _read(message: Message) -> Mail:
    mail = Mail(
        kind="mail",
        message_id=next(iter(_ids(message, "Message-ID")), ""),
        sender=_addresses(message, "From"),
        to=_addresses(message, "To"),
        cc=_addresses(message, "Cc"),
        reply_to=_addresses(message, "Reply-To"),
        subject=_plain(_words(_plain(_first(message, "Subject")))),
        date=_date(message),
        in_reply_to=_ids(message, "In-Reply-To")[:MAX_REFERENCES],
        references=bounded(_ids(message, "References")),
        authentication_results=[_plain(value) for value in _values(message, "Authentication-Results")],
    )
    for part in _parts(message, 0, [MAX_PARTS]):
        kind = _content_type(part)
        name = _filename(part)
        attached = bool(name) or part.get_content_disposition() == "attachment"
        if not attached:
            body = {"text/plain": "text", "text/html": "html"}.get(kind)
            if body is not None and not getattr(mail, body):
                setattr(mail, body, _text(part))
                continue
        content = _content(part)
        if not attached and not content:
            continue
        if len(mail.attachments) == MAX_ATTACHMENTS:
            raise Unreadable(f"554 5.6.0 the mail has more than {MAX_ATTACHMENTS} attachments")
        cid = next(iter(_ids(part, "Content-ID")), "")
        data = b64encode(content).decode()
        mail.attachments.append(Attachment(data, name=name, type=kind, size=len(content), content_id=cid))
    return mail


def _parts(part: Message, depth: int, left: list[int]) -> Iterator[Message]:
    """The leaves, in their order; a mail that is attached to a mail is a leaf."""
    left[0] -= 1
    if depth > MAX_DEPTH or left[0] < 0:
        raise Unreadable("554 5.6.0 the mail is nested too deeply, or has too many parts")
    for name in ("Content-Type", "Content-Disposition", "Content-ID"):
        value = _first(part, name)
        if len(value) > MAX_PARAMETERS_BYTES:
            raise Unreadable(f"552 5.3.4 the field {name} of a part is larger than {MAX_PARAMETERS_BYTES} bytes")
        if not value.isascii():
            part.replace_header(name, value)
    if part.get_content_maintype() == "multipart" and part.is_multipart():
        for inner in part.get_payload():
            if isinstance(inner, Message):
                yield from _parts(inner, depth + 1, left)
    else:
        yield part


def _content(part: Message) -> bytes:
    try:
        if part.is_multipart():  # message/rfc822, message/delivery-status
            return b"\n".join(one.as_bytes() for one in part.get_payload() if isinstance(one, Message))
        decoded = part.get_payload(decode=True)
    except Exception:  # the library stumbles over what is wrong in many ways
        return b""
    return decoded if isinstance(decoded, bytes) else b""


def _text(part: Message) -> str:
    text = _decoded(_content(part), _charset(part))
    lines = text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "\ufffd")
    return lines if lines.strip("\n") else ""


def _charset(part: Message) -> str:
    try:
        return str(part.get_content_charset() or "utf-8")
    except Exception:  # parameters that are continued or encoded in a wrong way
        return "utf-8"


def _decoded(content: bytes, charset: str) -> str:
    name = charset.lower().replace("-", "_")
    try:
        text = content.decode("utf-8" if name in _NO_CHARSETS else charset, "replace")
    except (LookupError, ValueError):
        text = content.decode("utf-8", "replace")
    return text.encode("utf-8", "replace").decode()


# -- header fields ----------------------------------------------------------------------------------------------------


def _values(message: Message, name: str) -> list[str]:
    """The fields of one name, as they stand; what is not ASCII is taken for UTF-8."""
    values = [_utf8(str(value)) for key, value in message.raw_items() if key.lower() == name.lower()]
    if sum(map(len, values)) > MAX_FIELD_BYTES:
        raise Unreadable(f"552 5.3.4 the field {name} is larger than {MAX_FIELD_BYTES} bytes")
    return values


def _utf8(value: str) -> str:
    """What the parser could not read as ASCII it keeps as half characters."""
    return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _first(message: Message, name: str) -> str:
    return next(iter(_values(message, name)), "")


def _plain(text: str) -> str:
    """One line of what can be shown, unfolded."""
    return _UNSHOWABLE.sub("\ufffd", re.sub("[\r\n]+(?=[ \t])", "", text).replace("\t", " ")).strip()


def _words(text: str) -> str:
    """Decodes what is encoded by RFC 2047; a character may be split between two words."""
    out: list[str] = []
    charset, gathered, end = "", b"", 0
    for word in _WORD.finditer(text):
        gap = text[end : word.start()]
        name = word[1].partition("*")[0].lower()
        if gathered and (name != charset or gap.strip()):
            out.append(_decoded(gathered, charset))
            gathered = b""
        if (not out and not gathered) or gap.strip():
            out.append(gap)
        gathered += _word_bytes(word[2].lower(), word[3])
        charset, end = name, word.end()
    if gathered:
        out.append(_decoded(gathered, charset))
    return "".join([*out, text[end:]])


def _word_bytes(encoding: str, written: str) -> bytes:
    if encoding == "q":
        return header_decode(written).encode("latin-1", "replace")
    try:
        return a2b_base64(written.rstrip("=") + "==")
    except NotBase64:
        return written.encode("utf-8", "replace")


def _addresses(message: Message, name: str) -> list[Address]:
    values = [_plain(value) for value in _values(message, name)]
    found = [Address(address=address, name=_plain(_words(said))) for said, address in getaddresses(values) if address]
    if len(found) > MAX_ADDRESSES:
        raise Unreadable(f"552 5.3.4 the field {name} has more than {MAX_ADDRESSES} addresses")
    return found


def _ids(message: Message, name: str) -> list[str]:
    return [id for value in _values(message, name) for id in _ID.findall(value) if is_message_id(id)]


def bounded(ids: list[str]) -> list[str]:
    """Returns references within their bound: the first, which began the thread, and the last ones."""
    unique = list(dict.fromkeys(ids))
    return unique if len(unique) <= MAX_REFERENCES else [unique[0], *unique[1 - MAX_REFERENCES :]]


def _date(message: Message) -> str:
    try:
        date = parsedate_to_datetime(_first(message, "Date"))
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).isoformat()
    except (ValueError, TypeError, IndexError, OverflowError):
        return ""


def now() -> str:
    """The time, as the format writes it."""
    return datetime.fromtimestamp(wall_time(), UTC).isoformat(timespec="seconds")


def _content_type(part: Message) -> str:
    return _plain(part.get_content_type())[:128]


def _filename(part: Message) -> str:
    """The last component of the name that a part claims."""
    try:
        name = _plain(_words(part.get_filename() or ""))
    except Exception:  # parameters that are continued or encoded in a wrong way
        return ""
    return re.split(r"[/\\]", name)[-1][-MAX_FILENAME:]
