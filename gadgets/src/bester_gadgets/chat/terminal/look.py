"""Defines how names, times, marks and themes look.

What people of any server wrote is shown here and in notices only, and all of it goes through :func:`words`: it is
text, never markup, and nothing in it acts on the terminal or changes the order of what stands beside it.
"""

from __future__ import annotations

from datetime import date, datetime

from textual.content import Content
from textual.theme import Theme

from bester.printable import cleaned
from bester_gadgets.chat import reasons
from bester_gadgets.chat.mirror import Conversation, Mirror
from bester_gadgets.chat.wire import Entry

MARKS = {"sending": "…", "sent": "◦", "arrived": "·", "delivered": "✓", "read": "✓✓", "failed": "✗"}
"""Sent: it waits for the other server, which arrived says has it."""
MARK_STYLES = {"read": "bold $success", "failed": "bold $error"}
PEOPLE = ("#2f9e94", "#c2643c", "#7a6fd0", "#a8812a", "#4584c4", "#b3568a", "#5b9440", "#8f6d5a")
"""Colours that are read on dark and on light."""

DARK = Theme(
    name="bester-dark",
    primary="#5fcdc3",
    secondary="#7fa7d9",
    accent="#5fcdc3",
    foreground="#e9ecef",
    background="#101418",
    surface="#181d23",
    panel="#20262e",
    success="#7fd99a",
    warning="#f0c468",
    error="#ff928a",
    dark=True,
)
LIGHT = Theme(
    name="bester-light",
    primary="#0b6b67",
    secondary="#3b6ea5",
    accent="#0b6b67",
    foreground="#1c2026",
    background="#f6f5f1",
    surface="#ffffff",
    panel="#e9e6de",
    success="#1b6f3b",
    warning="#7c5200",
    error="#b0241b",
    dark=False,
)


Piece = str | Content | tuple[str, str]
"""A text, what was made of texts before, or a text in a style."""


def words(*pieces: Piece) -> Content:
    """Returns texts as they may be shown."""
    return Content.assemble(
        *(
            (cleaned(one[0]), one[1]) if isinstance(one, tuple) else one if isinstance(one, Content) else cleaned(one)
            for one in pieces
        )
    )


def short(address: str, own_server: str) -> str:
    """Returns an address as it is called here: without the own server."""
    name, _, server = address.rpartition("@")
    return name if server == own_server else address


def colour(address: str) -> str:
    """Returns somebody's colour, always the same."""
    return PEOPLE[sum(address.encode()) % len(PEOPLE)]


def clock(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000).strftime("%H:%M")


def day(ms: int) -> date:
    return datetime.fromtimestamp(ms / 1000).date()


def day_name(when: date, today: date) -> str:
    """Returns a day as people call it."""
    ago = (today - when).days
    if ago == 0:
        return "today"
    if ago == 1:
        return "yesterday"
    words = f"{when:%A}, {when.day} {when:%B}"
    return words if when.year == today.year else f"{words} {when.year}"


def listed(one: Conversation, mirror: Mirror, own_server: str, width: int) -> Content:
    """Returns a conversation's two lines in the list."""
    talk = one.talk
    name = cleaned(short(talk.with_, own_server))
    count = str(talk.unread) if talk.unread < 100 else "99+"
    room = width - 3 - (len(count) + 3 if talk.unread else 0)
    name = name if len(name) <= room else name[: room - 1] + "…"
    if talk.with_.startswith("#"):
        dot = words("  ")  # its name has a sign of its own
    elif talk.with_ in mirror.online:
        dot = words(("● ", "$success"))
    else:
        dot = words(("○ ", "$foreground 50%"))
    badge = words("")
    if talk.unread:
        badge = words(" " * max(1, room - len(name) + 1), (f" {count} ", "bold $background on $primary"))
    return words(
        dot,
        (name, "bold" if talk.unread or talk.status == "invited" else ""),
        badge,
        ("\n  " + _below(one, mirror), "$foreground 60%"),
    )


def _below(one: Conversation, mirror: Mirror) -> str:
    talk = one.talk
    if talk.status == "invited":
        return f"invited by {talk.by}"
    if talk.status == "asked":
        return "waiting for its server"
    if talk.status == "left":
        return "not in this room"
    if talk.with_ in mirror.blocked:
        return "blocked"
    return " ".join(talk.preview.split()) or talk.topic or "nothing said yet"


def title(one: Conversation, mirror: Mirror) -> Content:
    """Returns what stands above the messages."""
    talk = one.talk
    name = (talk.with_, "bold")
    if talk.status == "invited":
        return words(name, (f"  {talk.by} invites you: /join accepts, /leave declines", "$warning"))
    if talk.status in ("asked", "left"):
        return words(
            name, (f"  {_below(one, mirror)}{f': {reasons.words(talk.reason)}' if talk.reason else ''}", "$warning")
        )
    if talk.with_.startswith("#"):
        members = f"  {talk.members} member{'' if talk.members == 1 else 's'}" if talk.status == "joined" else ""
        return words(name, (members, "$foreground 60%"), (f"  {talk.topic}", "italic"))
    if talk.with_ in mirror.blocked:
        return words(name, ("  blocked", "$error"))
    if talk.with_ in mirror.online:
        return words(name, ("  ● here", "$success"))
    return words(name, ("  ○ away", "$foreground 60%"))


def message(entry: Entry, mark: str, *, named: bool, own_server: str) -> Content:
    """Returns a message with its time, and its mark where it is an own one."""
    parts: list[Piece] = []
    if named:
        parts.append((short(entry.sender, own_server) + "\n", f"bold {colour(entry.sender)}"))
    parts += [(entry.text, ""), (f"  {clock(entry.time)}", "$foreground 60%")]
    if mark:
        parts.append((f" {MARKS[mark]}", MARK_STYLES.get(mark, "$foreground 60%")))
    if entry.reason:
        parts.append((f"\n{reasons.words(entry.reason)}", "italic $error"))
    return words(*parts)
