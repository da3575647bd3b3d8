"""Commands without an interpreter's start for each: a process that has imported everything forks one per command.

What runs is the command's own ``main``, in a process of its own, which begins and ends as the installed script does;
only the imports are done already, and are not freed at the end: both take most of the time of a short command.
``python -m tests.system.forking`` is that process: it reads a line of JSON for each command, and writes two, its pid
and its exit status.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import IO, Any, NoReturn

from bester.cli.commands import PLACES
from bester.config import parse

MAINS = {"bester": "bester.cli.main", "besterd": "bester.cli.besterd"}
IMPORTED = (
    "argon2",
    "bester.cli.accounts",
    "bester.cli.control",
    "bester.client.client",
    "bester.server.server",
    "bester.store.sqlite",
    "cryptography.x509",
    "rich.console",
    "uvloop",
)
"""What commands import when they need it."""


class Forking:
    """Runs commands to their end, one at a time."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.system.forking"],
            cwd=Path(__file__).parents[2],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def run(
        self, command: list[str], folder: Path, environment: Mapping[str, str], input: bytes, timeout_s: float
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command, by the path of its script.

        Raises:
            subprocess.TimeoutExpired: it did not end in time, and was killed.
        """
        with tempfile.TemporaryDirectory(prefix="bester-") as name:
            paths = [Path(name, kind) for kind in ("in", "out", "err")]
            paths[0].write_bytes(input)
            request = {"command": command, "folder": str(folder), "environment": dict(environment)}
            self._write(request | {"paths": [str(path) for path in paths]})
            pid = self._read()
            late = threading.Timer(timeout_s, os.kill, (pid, signal.SIGKILL))
            late.start()
            status = self._read()
            late.cancel()
            output, errors = (path.read_bytes().decode() for path in paths[1:])
        if status == -signal.SIGKILL:
            raise subprocess.TimeoutExpired(command, timeout_s, output, errors)
        return subprocess.CompletedProcess(command, status, output, errors)

    def _write(self, request: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        self._process.stdin.flush()

    def _read(self) -> int:
        assert self._process.stdout is not None
        return int(self._process.stdout.readline())

    def end(self) -> None:
        """Ends the process that forks."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


def _serve(requests: IO[bytes], statuses: IO[bytes]) -> str:
    """Forks for each request; returns the name of a command in its process alone."""
    while line := requests.readline():
        request = json.loads(line)
        pid = os.fork()
        if not pid:
            requests.close()
            statuses.close()
            _become(**request)
            return Path(request["command"][0]).name
        _say(statuses, pid)
        _, status = os.waitpid(pid, 0)
        _say(statuses, os.waitstatus_to_exitcode(status))
    return ""


def _say(statuses: IO[bytes], number: int) -> None:
    statuses.write(b"%d\n" % number)
    statuses.flush()


def _become(command: list[str], folder: str, environment: dict[str, str], paths: list[str]) -> None:
    """Makes this process what the installed script's would be."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = command
    flags = os.O_RDONLY, os.O_WRONLY | os.O_CREAT, os.O_WRONLY | os.O_CREAT
    for descriptor, (path, flag) in enumerate(zip(paths, flags, strict=True)):
        opened = os.open(path, flag, 0o600)
        os.dup2(opened, descriptor)
        os.close(opened)


def _end(main: Callable[[], int | None]) -> NoReturn:
    """Runs a command, and ends its process as an interpreter does, but for freeing what was imported."""
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
    """Serves until the input ends."""
    commands = {f"bester.cli.{place.partition(':')[0]}" for place in PLACES.values()}
    for name in (*MAINS.values(), *IMPORTED, *commands):
        import_module(name)
    parse('{"network": {"unix": {"address": "socket"}}}', Path())  # models are made at their first use
    gc.freeze()  # or each process would copy all of it when it ends, to collect it
    requests, statuses = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    if name := _serve(requests, statuses):
        _end(import_module(MAINS[name]).main)


if __name__ == "__main__":
    main()
