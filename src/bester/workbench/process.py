"""The process of the handler under test, started and ended as a server does it (docs/protocol.md, section 10.1)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections import deque
from collections.abc import Mapping, Sequence

_KEPT_LINES = 20
_MAX_LINE = 4096
_END_S = 1.0


class Process:
    """One run of the command; its own children end with it."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        output = process.stdout or process.stderr
        assert output is not None
        self._printed = output
        self._output: deque[str] = deque(maxlen=_KEPT_LINES)
        self._reading = asyncio.create_task(self._read())
        self.ended = asyncio.create_task(process.wait())
        """Done when the process has ended; the result is its status."""

    @classmethod
    async def start(cls, command: Sequence[str], environment: Mapping[str, str], stdio: int | None = None) -> Process:
        """Starts the command with these variables in its environment, and no others that concern Bester.

        Args:
            command: the program and its arguments.
            environment: the variables.
            stdio: a socket that is its standard input and output; None: it has no input, and its output is kept.

        Raises:
            OSError: there is no such program.
        """
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("BESTER_")}
        return cls(
            await asyncio.create_subprocess_exec(
                *command,
                env=inherited | dict(environment),
                stdin=asyncio.subprocess.DEVNULL if stdio is None else stdio,
                stdout=asyncio.subprocess.PIPE if stdio is None else stdio,
                stderr=asyncio.subprocess.STDOUT if stdio is None else asyncio.subprocess.PIPE,
                limit=_MAX_LINE,
                start_new_session=True,
            )
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def output(self) -> list[str]:
        """Returns the last lines that the process wrote."""
        return list(self._output)

    def how_it_ended(self) -> str:
        """Returns how the process ended, in words; "" while it runs."""
        status = self._process.returncode
        if status is None:
            return ""
        return f"its process ended with {status if status >= 0 else signal.Signals(-status).name}"

    def terminate(self) -> None:
        """Sends SIGTERM to the process and its children."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGTERM)

    async def end(self) -> None:
        """Ends the process; kills it if necessary."""
        self.terminate()
        await asyncio.wait({self.ended}, timeout=_END_S)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        await self.ended
        await self._reading

    async def _read(self) -> None:
        while True:
            try:
                line = await self._printed.readline()
            except ValueError:
                continue  # the line is longer than the limit, and the reader dropped it
            if not line:
                return
            self._output.append(line.decode(errors="replace").rstrip())
