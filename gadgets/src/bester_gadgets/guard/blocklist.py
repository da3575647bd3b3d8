"""The senders that are blocked: those of the settings, and those of a file that is read again when it changes."""

from __future__ import annotations

import fnmatch
import logging
import re
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from bester import Sender
from bester_gadgets.guard.settings import Blocked
from bester_gadgets.settings import SettingsError, reason

log = logging.getLogger("bester.gadgets.guard")

LOOK_S = 1.0
"""How often is looked whether the file has changed."""
MAX_FILE_BYTES = 1024 * 1024


class Blocklist:
    """Tells who is blocked.

    Args:
        blocked: the settings.
        folder: where the file is, if its path is relative.
        clock: counts seconds.

    Raises:
        SettingsError: the file cannot be read.
    """

    def __init__(self, blocked: Blocked, folder: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._blocked = blocked
        self._file = folder / blocked.file if blocked.file is not None else None
        self._clock = clock
        self._looked_at = clock()
        self._seen: tuple[int, int, int] | None = None
        self._use([], [])
        if self._file is not None:
            try:
                self._read(self._file)
            except (OSError, ValueError) as error:
                raise SettingsError(f"blocked.file: {reason(error)}") from error

    def __contains__(self, sender: Sender) -> bool:
        self._look()
        if sender.user is not None:
            return self._accounts(sender.user.lower()) is not None
        return sender.server is not None and self._servers(sender.server.lower()) is not None

    def _look(self) -> None:
        """Reads the file again if it has changed; one that cannot be read changes nothing."""
        now = self._clock()
        if self._file is None or now - self._looked_at < LOOK_S:
            return
        self._looked_at = now
        try:
            if _state(self._file) != self._seen:
                self._read(self._file)
                log.info("the blocked senders are read again from %s", self._file)
        except (OSError, ValueError) as error:
            log.warning("the blocked senders stay as they were: %s: %s", self._file, reason(error))

    def _read(self, path: Path) -> None:
        state = _state(path)
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
        if len(content) > MAX_FILE_BYTES:
            raise ValueError(f"it is larger than {MAX_FILE_BYTES} bytes")
        lines = [line.strip() for line in content.decode().splitlines()]
        entries = [line for line in lines if line and not line.startswith("#")]
        servers = [entry[1:] for entry in entries if entry.startswith("@")]
        self._use([entry for entry in entries if not entry.startswith("@")], servers)
        self._seen = state

    def _use(self, accounts: list[str], servers: list[str]) -> None:
        self._accounts = _matcher([*self._blocked.accounts, *accounts])
        self._servers = _matcher([*self._blocked.servers, *servers])


def _state(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_mtime_ns, found.st_size, found.st_ino


def _matcher(patterns: Iterable[str]) -> Callable[[str], re.Match[str] | None]:
    """Returns what matches any of these names, in which * stands for anything."""
    # Without patterns nothing matches.
    return re.compile("|".join(fnmatch.translate(one.lower()) for one in patterns) or r"(?!)").match
