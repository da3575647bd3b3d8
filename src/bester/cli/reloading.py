"""Runs a handler in a child process, and replaces the process when the handler's files change.

The new process attaches before the old one detaches, so that no message is lost or waits. A process that does not get
as far as that, because of an error in its code, is told of, and the old one goes on. This file is also the program of
the child: it says over a socket that it is attached, and ends when its parent does.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from bester.cli.loading import load, run_now
from bester.cli.output import USAGE, fail, warn

LOOK_S = 0.25
"""The time between two looks at the files."""
MAX_FILES = 5_000
"""The most files that are watched."""
_ATTACHED = b"a"
_HAS_ENDED = "the handler has ended; it is started again when a file changes"
_BEFORE_GOES_ON = "the new process has ended before it was attached; the one before goes on"
_NOT_OURS = frozenset(("__pycache__", "node_modules", "site-packages"))


def keep_running(target: str, root: Path) -> None:
    """Runs a handler until ^C or SIGTERM, and starts it anew when a Python file below the folder changes."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    reloader = Reloader(target, root)
    try:
        while True:
            reloader.step()
            time.sleep(LOOK_S)
    except KeyboardInterrupt:
        reloader.stop()


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


class Reloader:
    """The processes of one handler: the one that is attached, the one that is to replace it, those that finish."""

    def __init__(self, target: str, root: Path) -> None:
        self._target = target
        self._root = root
        self._seen = dict(_files(root))
        self._current: Child | None = None
        self._next: Child | None = Child(target)
        self._finishing: list[Child] = []

    def step(self) -> None:
        """Looks at the files and at the processes, once."""
        if self._next is not None and self._next.attached():
            if self._current is not None:
                self._finish(self._current)
            self._current, self._next = self._next, None
        now = dict(_files(self._root))
        if now != self._seen:
            changed = sorted(path for path, _ in now.items() ^ self._seen.items())
            self._seen = now
            warn(f"{os.path.relpath(changed[0])} has changed; starting the handler anew")
            if self._next is not None:
                self._finish(self._next)
            self._next = Child(self._target)
        if self._next is not None and self._next.ended():
            self._next = None
            warn(_BEFORE_GOES_ON if self._current is not None else _HAS_ENDED)
        if self._current is not None and self._current.ended():
            self._current = None
            if self._next is None:
                warn(_HAS_ENDED)
        self._finishing = [child for child in self._finishing if not child.ended()]

    def _finish(self, child: Child) -> None:
        child.end(signal.SIGTERM)
        self._finishing.append(child)

    def stop(self) -> None:
        """Ends all processes; they finish what is outstanding, unless they are asked to stop once more."""
        children = [child for child in (self._current, self._next, *self._finishing) if child is not None]
        for number in (signal.SIGTERM, signal.SIGKILL):
            for child in children:
                child.end(number)
            with contextlib.suppress(KeyboardInterrupt):
                for child in children:
                    child.process.wait()
                return


class Child:
    """A process that runs the handler."""

    def __init__(self, target: str) -> None:
        self._socket, theirs = socket.socketpair()
        with theirs:
            # -P: no file here stands in for a module of Python.
            # A session of its own: ^C is for the parent, which then asks the child to stop, once.
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "bester.cli.reloading", target, str(theirs.fileno())],
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        self._socket.setblocking(False)

    def attached(self) -> bool:
        """Returns True once, when it has attached."""
        try:
            return self._socket.recv(1) == _ATTACHED
        except BlockingIOError:
            return False

    def ended(self) -> bool:
        if self.process.poll() is None:
            return False
        self._socket.close()
        return True

    def end(self, number: signal.Signals) -> None:
        """Sends it a signal, if it still runs."""
        if self.process.poll() is None:
            self.process.send_signal(number)


def _files(root: Path) -> Iterator[tuple[str, tuple[int, int]]]:
    """Yields the Python files below a folder, with what a change changes."""
    found = 0
    for folder, folders, names in os.walk(root):
        folders[:] = [one for one in folders if not _foreign(folder, one)]
        for name in names:
            if name.endswith(".py"):
                path = os.path.join(folder, name)
                try:
                    stat = os.stat(path)
                except OSError:  # an editor has just replaced it
                    continue
                yield path, (stat.st_mtime_ns, stat.st_size)
                found += 1
                if found == MAX_FILES:
                    return


def _foreign(folder: str, name: str) -> bool:
    return name.startswith(".") or name in _NOT_OURS or os.path.exists(os.path.join(folder, name, "pyvenv.cfg"))


# -- the child ------------------------------------------------------------------------------------------------------


def main() -> None:
    """Runs the handler, says when it is attached, and ends with the parent."""
    target, descriptor = sys.argv[1:]
    parent = socket.socket(fileno=int(descriptor))
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    handler = load(target)
    if handler.classic:
        fail("--reload is for handlers that attach: two of the classic form cannot have one socket", USAGE)
    run_now(handler, lambda: parent.sendall(_ATTACHED))


def _end_with(parent: socket.socket) -> None:
    with contextlib.suppress(OSError):
        parent.recv(1)  # returns when the parent has ended
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    import typer

    try:
        main()
    except typer.Exit as end:
        sys.exit(end.exit_code)
