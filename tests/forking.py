"""Python programs without an interpreter's start for each: one process has imported everything, and forks them.

What runs is the ``main`` of ``bester`` or ``besterd``, or a script, in a process and a session of its own, which begins
and ends as a new interpreter's would; only the imports are done already, and are not freed at the end: both take most
of the time of a short command, and nearly all of a server's start. What an interpreter or an import reads from the
environment (:data:`FRESH`) needs a new one.

``python -m tests.forking`` is the process that forks. For each request it forks a keeper, which forks the program, and
tells the pid and, at its end, the exit status, as two lines.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import IO, Any, NoReturn, TypeAlias

from bester.cli.commands import PLACES
from bester.config import parse

MAINS = {"bester": "bester.cli.main", "besterd": "bester.cli.besterd"}
IMPORTED = (
    "argon2",
    "bester.cli.accounts",
    "bester.cli.control",
    "bester.client.client",
    "bester.handler.handler",
    "bester.server.cluster.node",
    "bester.server.server",
    "bester.store.sqlite",
    "bester.web.site",
    "cryptography.x509",
    "rich.console",
    "uvloop",
)
"""What programs import when they need it."""
FRESH = {"BESTER_DIE_AT", "LD_PRELOAD", "PYTHONPATH"}
MAX_REQUEST = 1 << 17


class Program:
    """A program that runs, or has ended; its methods are those of :class:`subprocess.Popen`."""

    def __init__(self, told: IO[bytes], stdout: IO[bytes] | None) -> None:
        self.stdout = stdout
        self.returncode: int | None = None
        self._told = told
        self.pid = int(told.readline())

    def poll(self) -> int | None:
        """Returns the exit status, or None while it runs."""
        if self.returncode is None and select.select([self._told], [], [], 0)[0]:
            self.wait()
        return self.returncode

    def wait(self, timeout_s: float | None = None) -> int:
        """Returns the exit status.

        Raises:
            subprocess.TimeoutExpired: it has not ended in time.
        """
        if self.returncode is None:
            if not select.select([self._told], [], [], timeout_s)[0]:
                raise subprocess.TimeoutExpired(str(self.pid), timeout_s or 0)
            with self._told:
                self.returncode = int(self._told.readline())
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Sends a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


Running: TypeAlias = Program | subprocess.Popen[bytes]


class _Forker:
    """The process that forks."""

    def __init__(self) -> None:
        self._requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        kept = {name: value for name, value in os.environ.items() if not name.startswith("BESTER_")}
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.forking", str(theirs.fileno())],
                cwd=Path(__file__).parents[1],
                env=kept,
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )

    def ask(self, request: Mapping[str, Any], descriptors: Iterable[int]) -> IO[bytes]:
        """Returns where the keeper tells."""
        reading, writing = os.pipe()
        try:
            socket.send_fds(self._requests, [json.dumps(request).encode()], [*descriptors, writing])
        finally:
            os.close(writing)
        return os.fdopen(reading, "rb", buffering=0)

    def end(self) -> None:
        """Ends it, when all that it started has ended."""
        self._requests.close()
        self._process.wait()


_forker = functools.cache(_Forker)


def end() -> None:
    """Ends the process that forks, if there is one."""
    if _forker.cache_info().currsize:
        _forker().end()
        _forker.cache_clear()


def start(
    command: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    *,
    stdin: IO[bytes] | None = None,
    stdout: IO[bytes] | None = None,
    stderr: IO[bytes] | None = None,
) -> Running:
    """Starts a program; ``bester``, ``besterd`` and ``python`` with a script are forked where that makes no difference.

    Args:
        stdin: nothing, if there is none.
        stdout: the ``stdout`` of what is returned, if there is none.
        stderr: the standard output, if there is none.
    """
    fresh = any(environment.get(name) != os.environ.get(name) for name in FRESH)
    if fresh or Path(command[0]).name not in (*MAINS, "python"):
        return subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=stdin or subprocess.DEVNULL,
            stdout=stdout or subprocess.PIPE,
            stderr=stderr or subprocess.STDOUT,
            start_new_session=True,
        )
    request = {"command": [*command], "folder": str(folder), "environment": dict(environment)}
    with contextlib.ExitStack() as ours:
        stdin = stdin or ours.enter_context(open(os.devnull, "rb"))
        read = None
        if stdout is None:
            reading, writing = os.pipe()
            read, stdout = os.fdopen(reading, "rb"), ours.enter_context(os.fdopen(writing, "wb"))
        told = _forker().ask(request, [one.fileno() for one in (stdin, stdout, stderr or stdout)])
    return Program(told, read)


def run(
    command: Sequence[str], folder: Path, environment: Mapping[str, str], input: bytes, timeout_s: float
) -> subprocess.CompletedProcess[str]:
    """Runs a program to its end.

    Raises:
        subprocess.TimeoutExpired: it did not end in time, and was killed.
    """
    with tempfile.TemporaryFile() as stdin, tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        stdin.write(input)
        stdin.seek(0)
        program = start(command, folder, environment, stdin=stdin, stdout=stdout, stderr=stderr)
        try:
            status = program.wait(timeout_s)
        except subprocess.TimeoutExpired:
            program.kill()
            program.wait()
            raise subprocess.TimeoutExpired(command, timeout_s, _text(stdout), _text(stderr)) from None
        return subprocess.CompletedProcess(command, status, _text(stdout), _text(stderr))


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode()


# -- in the process that forks -----------------------------------------------------------------------------------------


def _serve(requests: socket.socket) -> Callable[[], object] | None:
    """Forks for each request; returns what to run in its process alone, and None at the end."""
    while True:
        data, descriptors, _, _ = socket.recv_fds(requests, MAX_REQUEST, 4)
        _reap(0 if not data else os.WNOHANG)
        if not data:
            return None
        if not os.fork():
            requests.close()
            *standard, telling = descriptors
            if pid := os.fork():
                _keep(pid, standard, telling)
            os.close(telling)
            return _become(**json.loads(data), standard=standard)
        for one in descriptors:
            os.close(one)


def _reap(options: int) -> None:
    """Waits for keepers: with ``WNOHANG`` for the ones that have ended, with 0 for all."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, options)[0]:
            pass


def _keep(pid: int, standard: list[int], telling: int) -> NoReturn:
    """Tells what becomes of a process."""
    for one in standard:
        os.close(one)
    os.write(telling, b"%d\n" % pid)
    _, status = os.waitpid(pid, 0)
    with open(telling, "wb") as told:
        told.write(b"%d\n" % os.waitstatus_to_exitcode(status))
    os._exit(0)


def _become(command: list[str], folder: str, environment: dict[str, str], standard: list[int]) -> Callable[[], object]:
    """Makes this process what a new interpreter's would be; returns what it runs."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which shells make jobs in the background ignore
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for number, descriptor in enumerate(standard):
        os.dup2(descriptor, number)
        os.close(descriptor)
    name = Path(command[0]).name
    sys.argv = command if name in MAINS else command[1:]
    sys.modules["__main__"] = types.ModuleType("__main__")  # click names programs after it
    sys.path[0] = str(Path(sys.argv[0]).resolve().parent)
    if name in MAINS:
        return import_module(MAINS[name]).main  # type: ignore[no-any-return]
    return lambda: runpy.run_path(sys.argv[0], run_name="__main__") and None


def _end(main: Callable[[], object]) -> NoReturn:
    """Runs a program, and ends its process as an interpreter does, but for freeing what was imported."""
    status: object = 1
    try:
        status = main()
    except SystemExit as ended:
        status = ended.code
    except BaseException:
        traceback.print_exc()
    if isinstance(status, str):
        print(status, file=sys.stderr)
        status = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status if isinstance(status, int) else 0)


def main() -> None:
    """Serves until nobody can ask any more."""
    commands = {f"bester.cli.{place.partition(':')[0]}" for place in PLACES.values()}
    for name in (*MAINS.values(), *IMPORTED, *commands):
        import_module(name)
    parse('{"network": {"unix": {"address": "socket"}}}', Path())  # models are made at their first use
    gc.freeze()  # or each process would copy all of it when it ends, to collect it
    with socket.socket(fileno=int(sys.argv[1])) as requests:
        run = _serve(requests)
    if run is not None:
        _end(run)


if __name__ == "__main__":
    main()
