"""Tokens, which replace passwords, so that many clients can reconnect at once (docs/protocol.md, section 2)."""

from __future__ import annotations

import secrets
from hashlib import sha256

TOKEN_LIFETIME_S = 30 * 86_400


def new_token() -> tuple[str, bytes]:
    """Returns a token of 256 random bits, as URL-safe text for the client, and the hash that is stored."""
    text = secrets.token_urlsafe(32)
    return text, token_hash(text)


def token_hash(text: str) -> bytes:
    """Returns the hash by which a token is stored and found; a fast hash is enough, as a token cannot be guessed."""
    return sha256(text.encode(errors="surrogatepass")).digest()
