"""Accounts are present while a session takes their messages."""

from __future__ import annotations

from bester.core.presence import Presence
from bester.core.session import Session


def test_an_account_is_present_from_its_first_session_to_its_last() -> None:
    presence = Presence()
    first, second, other = (Session(name, "j.example") for name in ("g", "g", "t"))
    assert [presence.add(session) for session in (first, second, other)] == [True, False, True]
    assert presence.usernames() == ["g", "t"]
    assert presence.session_count == 3
    assert presence.sessions("g") == [first, second]
    assert not presence.remove(first)
    assert presence.remove(second)
    assert presence.usernames() == ["t"]
    assert presence.sessions("g") == []
    assert presence.session_count == 1


def test_an_account_is_found_in_any_spelling() -> None:
    presence = Presence()
    presence.add(Session("gül", "j.example"))
    for name in ("gül", "GÜL", "gu\u0308l"):
        account = presence.find(name)
        assert account is not None
        assert account.username == "gül"
    for name in ("gul", "", "g ül", "\u202egül"):
        assert presence.find(name) is None


def test_the_list_of_sessions_is_a_copy() -> None:
    presence = Presence()
    session = Session("g", "j.example")
    presence.add(session)
    presence.sessions("g").clear()
    assert presence.sessions("g") == [session]
