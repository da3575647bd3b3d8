"""Makes the JSON form of docs/mail.md out of a mail as it came over the wire (RFC 5322, MIME).

A mail is a stranger's work. What cannot be read in it is left out or replaced, and never raises; what is more than the
bounds is refused as a whole.
"""

from __future__ import annotations

import re
from base64 import b64encode
from binascii import a2b_base64
from codecs import lookup
from datetime import UTC, datetime
from email.message import Message
from email.quoprimime import header_decode
from email.utils import getaddresses, parsedate_to_datetime

from bester.clock import wall_time
from bester_gadgets.mail.message import (
    MAX_ATTACHMENTS,
    MAX_FILENAME,
    MAX_REFERENCES,
    Address,
    Attachment,
    Mail,
    is_message_id,
)
from bester_gadgets.mail.parts import Cutting, Part, Unreadable, said, text_of

MAX_FIELD_BYTES = 32 * 1024
MAX_ADDRESSES = 1000
MAX_HOPS = 100

_ID = re.compile(r"<[^<>\s]+>")
_WORD = re.compile(r"=\?([\w.:+*-]{1,64})\?([bBqQ])\?([^?\s]*)\?=", re.ASCII)
_UNSHOWABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
# Codecs that are no character sets of mail: they take long, or make half characters.
_NO_CHARSETS = frozenset({"idna", "punycode", "unicode_escape", "raw_unicode_escape", "undefined", "mbcs", "oem"})


def parse(content: bytes) -> Mail:
    """Returns what a mail says; who handed it over is for the caller to add.

    Raises:
        Unreadable: it goes beyond a bound.
    """
    cutting = Cutting(content)
    message = cutting.whole().header
    if sum(name.lower() == "received" for name, _ in message.raw_items()) > MAX_HOPS:
        raise Unreadable("554 5.4.6 the mail goes round in a loop: it has too many Received fields")
    return _read(message, cutting)


def _read(message: Message, cutting: Cutting) -> Mail:
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
    for part in cutting.leaves():
        kind = _plain(part.type)[:128]
        name = _filename(part.header)
        attached = bool(name) or said(part.header.get_content_disposition, None) == "attachment"
        if not attached:
            body = {"text/plain": "text", "text/html": "html"}.get(kind)
            if body is not None and not getattr(mail, body):
                setattr(mail, body, _text(part))
                continue
        content = part.content()
        if not attached and not content:
            continue
        if len(mail.attachments) == MAX_ATTACHMENTS:
            raise Unreadable(f"554 5.6.0 the mail has more than {MAX_ATTACHMENTS} attachments")
        cid = next(iter(_ids(part.header, "Content-ID")), "")
        data = b64encode(content).decode()
        mail.attachments.append(Attachment(data, name=name, type=kind, size=len(content), content_id=cid))
    return mail


def _text(part: Part) -> str:
    charset = said(part.header.get_content_charset, None)
    text = _decoded(part.content(), charset or "utf-8")
    lines = text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "\ufffd")
    return lines if lines.strip("\n") else ""


def _decoded(content: bytes, charset: str) -> str:
    try:
        known = lookup(charset)
        name = "utf-8" if known.name.replace("-", "_") in _NO_CHARSETS else known.name
        text = content.decode(name, "replace")
    except Exception:  # a codec's search and its work have many ways to fail
        text = content.decode("utf-8", "replace")
    return text.encode("utf-8", "replace").decode()


# -- header fields ----------------------------------------------------------------------------------------------------


def _values(message: Message, name: str) -> list[str]:
    """The fields of one name, as they stand; what is not ASCII is taken for UTF-8."""
    values = [text_of(value) for key, value in message.raw_items() if key.lower() == name.lower()]
    if sum(map(len, values)) > MAX_FIELD_BYTES:
        raise Unreadable(f"552 5.3.4 the field {name} is larger than {MAX_FIELD_BYTES} bytes")
    return values


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
    except ValueError:  # also where it is not ASCII
        return written.encode("utf-8", "replace")


def _addresses(message: Message, name: str) -> list[Address]:
    values = [_plain(value) for value in _values(message, name)]
    nothing: list[tuple[str, str]] = []
    read = said(lambda: getaddresses(values), nothing)
    found = [Address(address=address, name=_plain(_words(shown))) for shown, address in read if address]
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
    text = _first(message, "Date")
    date = said(lambda: parsedate_to_datetime(text), None)
    return said((date if date.tzinfo else date.replace(tzinfo=UTC)).isoformat, "") if date is not None else ""


def now() -> str:
    """The time, as the format writes it."""
    return datetime.fromtimestamp(wall_time(), UTC).isoformat(timespec="seconds")


def _filename(header: Message) -> str:
    """The last component of the name that a part claims."""
    name = _plain(_words(said(header.get_filename, None) or ""))
    return re.split(r"[/\\]", name)[-1][-MAX_FILENAME:]
