"""Ends the handlers' processes of a server that was killed and could not end them itself.

A small shell reads the process groups that are to end with the server from a pipe whose other end the server holds.
When the server is gone, however it went, the shell reads the end of the pipe.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from asyncio.subprocess import DEVNULL, PIPE, Process

log = logging.getLogger("bester.supervisor")

_SHELL = "/bin/sh"
_PROGRAM = """
groups=" "
while read -r what group; do
  case $what in
    begun) groups="$groups$group " ;;
    ended) groups="${groups%% $group *} ${groups#* $group }" ;;
  esac
done
[ "$groups" = " " ] && exit
for group in $groups; do kill -s TERM -- "-$group" 2>/dev/null; done
sleep 3
for group in $groups; do kill -s KILL -- "-$group" 2>/dev/null; done
"""


class Guardian:
    """Knows which process groups end with this server."""

    def __init__(self) -> None:
        self._groups: dict[int, None] = {}
        self._shell: Process | None = None
        self._starting = asyncio.Lock()

    async def be_there(self) -> None:
        """Starts the shell, if there is none; called before a group begins."""
        async with self._starting:
            if self._shell is None or self._shell.returncode is not None:
                await self._start()

    def begun(self, group: int) -> None:
        """Adds a process group that is to end with this process."""
        self._groups[group] = None
        self._tell(f"begun {group}")

    def ended(self, group: int) -> None:
        """Removes a group whose processes have ended; its number may soon be another group's."""
        self._groups.pop(group, None)
        self._tell(f"ended {group}")

    async def close(self) -> None:
        """Lets the shell end without ending any process group."""
        for group in list(self._groups):
            self.ended(group)
        shell, self._shell = self._shell, None
        if shell is not None and shell.stdin is not None:
            shell.stdin.close()
            await shell.wait()

    async def _start(self) -> None:
        try:
            self._shell = await asyncio.create_subprocess_exec(
                _SHELL, "-c", _PROGRAM, stdin=PIPE, stdout=DEVNULL, stderr=DEVNULL, start_new_session=True, cwd="/"
            )
        except OSError as error:
            self._shell = None
            log.warning("handlers would go on without this server, if it were killed: %s: %s", _SHELL, error.strerror)
            return
        for group in self._groups:
            self._tell(f"begun {group}")

    def _tell(self, line: str) -> None:
        if self._shell is not None and self._shell.stdin is not None:
            with contextlib.suppress(OSError, RuntimeError):  # it was killed; the next begin starts another one
                self._shell.stdin.write(f"{line}\n".encode())
