"""The bytes of one check in a readable and bounded form, for people."""

from __future__ import annotations

from collections import deque

_SHOWN_BYTES = 160
_FIRST = 6
_LAST = 10


class Transcript:
    """The sent and received bytes, in order; of many events only the first and the last ones."""

    def __init__(self) -> None:
        self._first: list[str] = []
        self._last: deque[str] = deque(maxlen=_LAST)
        self._count = 0

    def clear(self) -> None:
        """Removes all events."""
        self._first.clear()
        self._last.clear()
        self._count = 0

    def sent(self, data: bytes, how: str = "") -> None:
        """Notes sent bytes; ``how`` says if they were not sent in one piece."""
        self._add(f"> {shown(data)}" + (f"   ({how})" if how else ""))

    def came(self, data: bytes) -> None:
        """Notes received bytes."""
        self._add(f"< {shown(data)}")

    def note(self, text: str) -> None:
        """Notes another event."""
        self._add(f"# {text}")

    def lines(self) -> list[str]:
        """Returns the transcript as lines."""
        left_out = self._count - len(self._first) - len(self._last)
        return [*self._first, *([f"# {left_out} more"] if left_out else []), *self._last]

    def _add(self, line: str) -> None:
        self._count += 1
        if len(self._first) < _FIRST:
            self._first.append(line)
        else:
            self._last.append(line)


def shown(data: bytes, at_most: int = _SHOWN_BYTES) -> str:
    """Returns bytes as text: printable ASCII as it is, other bytes as ``\\x..``; omits the middle of long data."""
    if len(data) > at_most:
        half = at_most // 2
        return f"{_escaped(data[:half])} ... {len(data) - 2 * half} bytes ... {_escaped(data[-half:])}"
    return _escaped(data)


def _escaped(data: bytes) -> str:
    return "".join("\\\\" if byte == 0x5C else chr(byte) if 0x20 <= byte < 0x7F else f"\\x{byte:02x}" for byte in data)
