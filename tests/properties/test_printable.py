"""What others wrote acts on no terminal, forges no line, and is no markup."""

from __future__ import annotations

import io
import logging
import sys
import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rich.table import Table

from bester.cli import output
from bester.cli.screen import Screen, styled
from bester.cli.status import tables
from bester.printable import LOG_FORMAT, LogLines, cleaned, escaped, one_line

BOUNDED = settings(max_examples=60, deadline=None)
HOSTILE = "a[/x][bold]\x1b]0;owned\x07\x1b[2J\r\n2026-01-01 INFO forged\u202eevil\u2066\x9b31m\ud800"
anything = st.text(st.characters()) | st.text(st.sampled_from(HOSTILE))


def acts(text: str, keep: str = "") -> list[str]:
    """Returns what in a text acts on a terminal."""
    return [char for char in text if unicodedata.category(char)[0] == "C" and char not in keep]


@BOUNDED
@given(anything)
@example(HOSTILE)
def test_what_others_wrote_is_text(text: str) -> None:
    assert acts(escaped(text)) == []
    assert acts(escaped(text, keep="\n"), "\n") == []
    assert len(one_line(text, 10)) <= 13 * 10
    assert acts(cleaned(text), "\n\u200c\u200d") == []
    assert escaped(escaped(text)) == escaped(text)
    assert cleaned(cleaned(text)) == cleaned(text)


@pytest.mark.parametrize("text", ["Grüße", "日本語", "سلام", "a[/x]", "👩\u200d🔬", "می\u200cخواهم"])
def test_what_is_harmless_stays(text: str) -> None:
    assert cleaned(text) == text


def printed(what: object) -> str:
    """Returns what a screen writes to a terminal; its own colours are escape sequences too, and so it has none."""
    screen = Screen()
    screen.file = io.StringIO()
    screen.width = 300
    screen.print(what)
    return screen.file.getvalue()


def test_a_table_shows_names_as_they_are() -> None:
    table = Table(HOSTILE, title=HOSTILE, caption=HOSTILE)
    table.add_row(HOSTILE)
    for shown in (printed(table), printed(HOSTILE), printed(styled(HOSTILE, "bold"))):
        assert acts(shown, "\n") == []
        assert "a[/x][bold]" in shown
    assert printed(table).count("a[/x][bold]") == 4
    assert not any(line.startswith("2026") for line in printed(table).splitlines())


def test_the_status_shows_names_as_they_are() -> None:
    rows = {
        "handlers": {"type": HOSTILE, "attached": [{"name": HOSTILE, "outstanding": 0, "concurrency": 1}]}
        | dict.fromkeys(("answered", "failed", "active", "waiting", "meanMs"), 0)
        | {"classic": False, "lastError": HOSTILE},
        "clients": {"username": HOSTILE, "sessions": [{"address": HOSTILE, "seconds": 1, "inFlight": 0}]},
        "servers": dict.fromkeys(("incoming", "inFlight", "waiting", "dead"), 0)
        | dict.fromkeys(("name", "address", "link", "verified", "lastError"), HOSTILE)
        | {"retryIn": None},
        "problems": dict.fromkeys(("what", "name", "detail"), HOSTILE),
    }
    found = {name: [row] for name, row in rows.items()}
    numbers = dict.fromkeys(("accepted", "good", "deliveries"), 0) | {"bad": {HOSTILE: 1}}
    outcomes = dict.fromkeys(("sent", "queued", "skipped", "failed"), 0)
    counts = dict.fromkeys(("connections", "sessions", "accounts", "unauthenticated", "underWay", "uptime", "pid"), 1)
    shown = printed(
        tables(
            found
            | counts
            | {"server": HOSTILE, "identity": None, "listeners": [HOSTILE], "messages": numbers, "toServers": outcomes}
            | {"dropped": {"messages": {HOSTILE: 1}}, "node": HOSTILE, "version": HOSTILE, "build": HOSTILE}
            | {"rates": dict.fromkeys(("accepted", "good", "bad", "deliveries"), 0.0)}
        )
    )
    assert acts(shown, "\n") == []
    assert shown.count("a[/x]") >= 10


def test_lines_of_commands_are_not_forged(capsys: pytest.CaptureFixture[str]) -> None:
    output.say(f"{HOSTILE}: gone")
    output.warn(HOSTILE)
    output.say_text("two\nlines \x1b")
    output.say_json({"name": HOSTILE})
    told = capsys.readouterr()
    assert acts(told.out + told.err, "\n") == []
    assert [line[:4] for line in told.out.splitlines()[:2]] == ["a[/x", "  20"]
    assert told.out.splitlines()[2:4] == ["two", "lines \\x1b"]


def test_lines_of_a_log_are_not_forged() -> None:
    formatter = LogLines(LOG_FORMAT)
    try:
        raise ValueError(HOSTILE)
    except ValueError:
        failed = logging.LogRecord("bester", logging.ERROR, "f", 1, "%s failed", (HOSTILE,), sys.exc_info())
    said = logging.LogRecord("bester", logging.INFO, "f", 1, "%s came", (HOSTILE,), None)
    assert "\n" not in formatter.format(said)
    for record in (said, failed):
        lines = formatter.format(record).split("\n")
        assert acts("".join(lines)) == []
        assert all(line.startswith("  ") for line in lines[1:])
