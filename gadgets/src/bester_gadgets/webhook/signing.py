"""Signatures as the Standard Webhooks convention has them (https://www.standardwebhooks.com).

The signed text is ``ID.TIMESTAMP.BODY``, the signature HMAC-SHA256, written ``v1,BASE64``. Three headers carry it:
``webhook-id``, ``webhook-timestamp`` (whole seconds since 1970) and ``webhook-signature``, which may name several
signatures, separated by spaces, while a secret is replaced by another.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable, Mapping

ID = "webhook-id"
TIMESTAMP = "webhook-timestamp"
SIGNATURE = "webhook-signature"
PREFIX = "whsec_"
MIN_SECRET_BYTES = 24
MAX_SECRET_BYTES = 64
TOLERANCE_S = 300
MAX_ID = 256
MAX_SIGNATURES = 16


class BadSignature(Exception):
    """Not signed, not with this secret, or not now; the text says which, and is safe to show."""


def read_secret(text: str) -> bytes:
    """Returns the key that ``whsec_BASE64`` stands for.

    Raises:
        ValueError: not of that form, or not of 24 to 64 bytes.
    """
    try:
        key = base64.b64decode(text.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError("a secret is whsec_ and base64") from error
    if not text.startswith(PREFIX) or not MIN_SECRET_BYTES <= len(key) <= MAX_SECRET_BYTES:
        raise ValueError(f"a secret is whsec_ and {MIN_SECRET_BYTES} to {MAX_SECRET_BYTES} random bytes as base64")
    return key


def sign(keys: Iterable[bytes], id: str, timestamp_s: int, body: bytes) -> dict[str, str]:
    """Returns the three headers for a body."""
    signatures = " ".join(_signature(key, id, str(timestamp_s), body).decode() for key in keys)
    return {ID: id, TIMESTAMP: str(timestamp_s), SIGNATURE: signatures}


def verify(
    keys: Iterable[bytes], headers: Mapping[str, str], body: bytes, now_s: float, tolerance_s: float = TOLERANCE_S
) -> tuple[str, int]:
    """Returns id and timestamp of a body that was signed with one of the keys.

    Raises:
        BadSignature: it was not, or too long ago, or in the future.
    """
    id, stamp, signatures = read_headers(headers, now_s, tolerance_s)
    wanted = [_signature(key, id, stamp, body) for key in keys]
    if not any(hmac.compare_digest(one, mine) for one in signatures for mine in wanted):
        raise BadSignature("the signature is not right")
    return id, int(stamp)


def read_headers(
    headers: Mapping[str, str], now_s: float, tolerance_s: float = TOLERANCE_S
) -> tuple[str, str, list[bytes]]:
    """Returns id, timestamp and signatures of a request, whose body need not be there yet.

    Raises:
        BadSignature: no body can be rightly signed with these.
    """
    id, stamp, given = headers.get(ID, ""), headers.get(TIMESTAMP, ""), headers.get(SIGNATURE, "")
    if not id or not stamp or not given:
        raise BadSignature(f"wanted are the headers {ID}, {TIMESTAMP} and {SIGNATURE}")
    if len(id) > MAX_ID or not (stamp.isascii() and stamp.isdigit() and len(stamp) <= 12):
        raise BadSignature(f"{ID} has at most {MAX_ID} characters, {TIMESTAMP} is in whole seconds")
    if abs(now_s - int(stamp)) > tolerance_s:
        raise BadSignature(f"signed more than {tolerance_s:g} s from now")
    return id, stamp, [one.encode(errors="replace") for one in given.split(" ", MAX_SIGNATURES)[:MAX_SIGNATURES]]


def _signature(key: bytes, id: str, stamp: str, body: bytes) -> bytes:
    signed = b".".join((id.encode(errors="surrogateescape"), stamp.encode(), body))
    return b"v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256))
