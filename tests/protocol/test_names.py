"""The canonical forms of names."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from precis_i18n import get_profile

from bester.errors import InvalidName
from bester.protocol.names import server_name, type_name, username

DAVID = "\u05d3\u05d5\u05d3"
MUHAMMAD = "\u0645\u062d\u0645\u062f"


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("alice", "alice"),
        ("Alice", "alice"),
        ("ａｌｉｃｅ", "alice"),
        ("a.b-c_d@e", "a.b-c_d@e"),
        ("JÜRGEN", "jürgen"),
        ("u\u0308", "ü"),
        ("ΑΣ", "ας"),
        ("山田", "山田"),
        ("\u212a", "k"),
        (DAVID, DAVID),
        (f"{DAVID}1", f"{DAVID}1"),
        (MUHAMMAD, MUHAMMAD),
        ("x" * 64, "x" * 64),
        ("É" * 64, "é" * 64),
        ("e\u0301" * 32, "é" * 32),
    ],
)
def test_spellings_of_one_account_have_one_form(text: str, canonical: str) -> None:
    assert username(text) == canonical


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "1 to 64 characters"),
        ("x" * 65, "1 to 64 characters"),
        ("é" * 1_000_000, "1 to 64 characters"),
        ("İ" * 64, "at most 64 characters"),  # each becomes two
        ("a b", "spaces are not allowed"),
        ("a\nb", "control characters"),
        ("a\x7f", "control characters"),
        ("a\x85", "control characters"),
        ("\ud800", "control characters"),
        *((f"a{mark}b", "control characters") for mark in "\u202a\u202b\u202c\u202d\u202e\u200e\u200f\u061c"),
        *((f"{DAVID}{mark}", "control characters") for mark in "\u2066\u2067\u2068\u2069"),
        (f"1{DAVID}", "mixes directions"),
        (f"a{DAVID}", "mixes directions"),
        ("ﬀ", "plain form"),
        ("☃", "U+2603 is not allowed"),
        ("a\u200cb", "U+200C is not allowed"),
    ],
)
def test_a_bad_username_is_refused_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(InvalidName, match=why.replace("+", r"\+")) as caught:
        username(text)
    assert not any(unicodedata.category(character) in ("Cc", "Cf", "Cs") for character in caught.value.message)
    assert len(caught.value.message) < 250


names = st.text(max_size=66) | st.text(st.sampled_from("aAäÄΣσςİı\u0307\u0301ｱﾞ가דד١1.-_ \u200c\u0d4d"), max_size=66)


@given(names)
@example("\u1fb3\u0345")
@example("ﾞ")
def test_a_canonical_username_stays_as_it_is(text: str) -> None:
    try:
        name = username(text)
    except InvalidName:
        return
    assert 1 <= len(name) <= 64
    assert username(name) == name


@given(st.text(st.characters(max_codepoint=0x7F), min_size=1, max_size=64))
def test_the_short_way_for_ascii_is_the_profile_itself(text: str) -> None:
    try:
        expected = get_profile("UsernameCaseMapped").enforce(text)
    except UnicodeEncodeError:
        with pytest.raises(InvalidName):
            username(text)
    else:
        assert username(text) == expected


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("j", "j"),
        ("localhost", "localhost"),
        ("J.Example", "j.example"),
        ("127.0.0.1", "127.0.0.1"),
        ("a-1.b", "a-1.b"),
    ],
)
def test_server_names_are_lower_cased(text: str, canonical: str) -> None:
    assert server_name(text) == canonical
    assert server_name(canonical) == canonical


def test_a_server_name_can_be_253_characters_long() -> None:
    name = ".".join(["x" * 63, "x" * 63, "x" * 63, "x" * 61])
    assert server_name(name) == name
    with pytest.raises(InvalidName, match="253"):
        server_name(f"{name}x")


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "a.",
        ".a",
        "a..b",
        "-a",
        "a-",
        "a_b",
        "a b",
        "a\n",
        "ä",
        "\u212a",
        "a:1",
        "[::1]",
        "x" * 64,
        "x" * 10**6,
    ],
)
def test_a_bad_server_name_is_refused(text: str) -> None:
    with pytest.raises(InvalidName, match="not a server's name") as caught:
        server_name(text)
    assert len(caught.value.message) < 250


@pytest.mark.parametrize("text", ["chat", "Chat", "M1", "a b/c", "ケーキ", DAVID, "x" * 128])
def test_type_names_are_kept_as_they_are(text: str) -> None:
    assert type_name(text) == text


@pytest.mark.parametrize("text", ["", "x" * 129, "a\n", "\x00", "\x9f", "a\u202eb", "\ud800", "a\u2028"])
def test_a_bad_type_name_is_refused(text: str) -> None:
    with pytest.raises(InvalidName, match="not a type's name") as caught:
        type_name(text)
    assert caught.value.message.isprintable()
