"""Makes a mail (RFC 5322, MIME) out of what a client sends; docs/mail.md has its form."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.header import Header
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from uuid import uuid4

from bester.clock import wall_time
from bester_gadgets.mail.message import (
    MAX_SUBJECT,
    Address,
    Invalid,
    Outgoing,
    checked_address,
    checked_attachment,
    checked_body,
    checked_id,
    checked_line,
)

MAX_LINE = 76


@dataclass(frozen=True, slots=True)
class Composed:
    """A mail that can be sent."""

    message_id: str
    sender: str
    recipients: tuple[str, ...]
    """Of ``to``, ``cc`` and ``bcc``, each once."""
    content: bytes
    utf8: bool
    """Whether it can go only where SMTPUTF8 is known (RFC 6531), because an address is not ASCII."""


def compose(outgoing: Outgoing, sender: str, references: Sequence[str], max_recipients: int) -> Composed:
    """Returns the mail of an account.

    Args:
        outgoing: what it wants to send.
        sender: its address, which is all that stands in the field From.
        references: the thread of the mail that is answered, oldest first.
        max_recipients: how many different ones are allowed.

    Raises:
        Invalid: it cannot be sent as it stands.
    """
    fields = {
        name: [checked_address(one, f"{name}[{index}]") for index, one in enumerate(given)]
        for name, given in (("to", outgoing.to), ("cc", outgoing.cc), ("bcc", outgoing.bcc))
    }
    recipients = tuple(dict.fromkeys(one.address for given in fields.values() for one in given))
    if not recipients:
        raise Invalid("to: there is no recipient")
    if len(recipients) > max_recipients:
        raise Invalid(f"to, cc, bcc: {len(recipients)} recipients, and {max_recipients} are allowed")
    subject = checked_line(outgoing.subject, "subject", MAX_SUBJECT)
    in_reply_to = [checked_id(outgoing.in_reply_to, "inReplyTo")] if outgoing.in_reply_to else []
    thread = [checked_id(id, f"references[{index}]") for index, id in enumerate(references)]

    utf8 = not all(one.isascii() for one in (sender, *recipients))
    message_id = f"<{uuid4().hex}@{sender.rpartition('@')[2]}>"
    # Written by hand, because a library that is given values takes what looks encoded in them for encoded, and encodes
    # ids that are longer than its lines.
    fields_written = {
        "Message-ID": message_id,
        "From": sender,
        "To": ",\r\n ".join(map(_written, fields["to"])),
        "Cc": ",\r\n ".join(map(_written, fields["cc"])),
        "Subject": _encoded(subject, "Subject"),
        "Date": format_datetime(datetime.fromtimestamp(wall_time(), UTC)),
        "In-Reply-To": "".join(in_reply_to),
        "References": "\r\n ".join(thread),
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in fields_written.items() if value)
    # Text that is not ASCII is encoded, so that it also passes where 8BITMIME is not known.
    body = EmailMessage(SMTP.clone(cte_type="7bit"))
    _fill(body, outgoing)
    return Composed(message_id, sender, recipients, head.encode() + body.as_bytes(), utf8)


def _written(one: Address) -> str:
    if not one.name:
        return one.address
    encoded = _encoded(one.name, "To")
    if encoded == one.name:
        encoded = '"' + re.sub(r'(["\\])', r"\\\1", one.name) + '"'
    return f"{encoded}\r\n <{one.address}>" if "\n" in encoded else f"{encoded} <{one.address}>"


def _encoded(text: str, name: str) -> str:
    """Returns a text as it stands in a field: as it is, or as words of RFC 2047 on folded lines."""
    literal = text.isascii() and "=?" not in text and len(text) <= MAX_LINE
    return text if literal else Header(text, "utf-8", MAX_LINE, name).encode(linesep="\r\n")


def _fill(message: EmailMessage, outgoing: Outgoing) -> None:
    text = checked_body(outgoing.text, "text")
    html = checked_body(outgoing.html, "html")
    attachments = [
        (one, *checked_attachment(one, f"attachments[{index}]")) for index, one in enumerate(outgoing.attachments)
    ]
    if text or not html:
        message.set_content(text)
        if html:
            message.add_alternative(html, subtype="html")
    else:
        message.set_content(html, subtype="html")
    for one, media_type, content in attachments:
        kind, _, subtype = media_type.partition("/")
        if kind == "message":  # which may not be encoded, as the others are
            kind, subtype = "application", "octet-stream"
        message.add_attachment(content, kind, subtype, filename=one.name or None, cid=one.content_id or None)
