"""The names of accounts, servers and types, in the one form in which they are stored and compared.

Every function takes a name in any spelling and returns its canonical form; it returns a canonical name unchanged.
(docs/protocol.md, sections 1, 5 and 8.)
"""

from __future__ import annotations

import re
from functools import cache, lru_cache
from typing import TYPE_CHECKING

from bester.errors import InvalidName

if TYPE_CHECKING:
    from precis_i18n.profile import Profile

MAX_USERNAME = 64
MAX_SERVER_NAME = 253
MAX_TYPE = 128
"""Bounds in characters."""
RESERVED_TYPES = frozenset({"builtin", "dummy"})
"""The types that a server serves itself (docs/protocol.md, section 2.5): no handler serves or sends them."""

# Characters that change how the text around a name is shown: controls, line ends, bidirectional controls, surrogates.
_UNSHOWABLE = "\x00-\x1f\x7f-\x9f\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff"
_unshowable = re.compile(f"[{_UNSHOWABLE}]").search
# The profile allows all printable ASCII except the space unchanged, so such names need no tables.
_ascii_username = re.compile(rf"[!-~]{{1,{MAX_USERNAME}}}\Z").match
_label = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_server_name = re.compile(rf"{_label}(?:\.{_label})*\Z").match
_type_name = re.compile(rf"[^{_UNSHOWABLE}]{{1,{MAX_TYPE}}}\Z").match

_WHY = {
    "bidi_rule": "it mixes directions of writing so that it can be misread",
    "has_compat": "{} has a plain form that must be used instead",
    "spaces": "spaces are not allowed",
}


def username(text: str) -> str:
    """Returns a username in its PRECIS UsernameCaseMapped form (RFC 8265; docs/protocol.md, section 5).

    A username has 1 to 64 characters, before and after mapping. All scripts are allowed; a name must not mix writing
    directions.

    Raises:
        InvalidName: the text is not a username; the message says why, and is safe to show.
    """
    if _ascii_username(text):
        return text.lower()
    if not 1 <= len(text) <= MAX_USERNAME:
        raise InvalidName(f"a username has 1 to {MAX_USERNAME} characters")
    return _mapped(text)


def server_name(text: str) -> str:
    """Returns a server's name in lower case: labels of ASCII letters, digits and inner hyphens, joined by dots.

    1 to 253 characters, 1 to 63 in a label; one label is enough.

    Raises:
        InvalidName: the text is not a server's name.
    """
    if len(text) <= MAX_SERVER_NAME and text.isascii():
        name = text.lower()
        if _server_name(name):
            return name
    raise InvalidName(
        f"{_shown(text)} is not a server's name: letters, digits, hyphens and dots, up to {MAX_SERVER_NAME} characters"
    )


def type_name(text: str) -> str:
    """Returns the name of a message type unchanged: 1 to 128 characters without control characters.

    Raises:
        InvalidName: the text is not a type's name.
    """
    if not _type_name(text):
        raise InvalidName(f"{_shown(text)} is not a type's name: 1 to {MAX_TYPE} characters, no control characters")
    return text


@lru_cache(maxsize=4096)
def _mapped(text: str) -> str:
    if _unshowable(text):
        raise InvalidName(f"{_shown(text)} is not a username: control characters are not allowed")
    try:
        name = _profile().enforce(text)
    except UnicodeEncodeError as error:
        kind = error.reason.rpartition("/")[2]
        why = _WHY.get(kind, "{} is not allowed").format(f"U+{ord(error.object[error.start]):04X}")
        raise InvalidName(f"{_shown(text)} is not a username: {why}") from error
    if len(name) > MAX_USERNAME:
        raise InvalidName(f"a username has at most {MAX_USERNAME} characters, also in its composed lower-case form")
    return name


@cache
def _profile() -> Profile:
    # Imported only when a name needs it, because most servers only ever see ASCII names.
    from precis_i18n import get_profile

    return get_profile("UsernameCaseMapped")


def _shown(text: str) -> str:
    return repr(text) if len(text) <= 40 else f"{text[:40]!r}..."
