"""Sets up an account and an echo handler for ``bester bench``, and a server if it needs one."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from bester.cli.output import BAD, NO_CONNECTION, fail

if TYPE_CHECKING:
    from bester.cli.control import Control
    from bester.config import Config

WAIT_S = 20.0
_BESTERD = "import sys; sys.argv[0] = 'besterd'; from bester.cli.besterd import main; main()"


@dataclass(frozen=True)
class Ready:
    """A server that can be put under load."""

    url: str
    user: str
    password: str
    type: str
    pid: int


@contextmanager
def temporary_server() -> Iterator[Path]:
    """Runs a server in a temporary folder; yields its configuration's path."""
    with tempfile.TemporaryDirectory(prefix="bester-") as folder:
        config = Path(folder) / "server.conf"
        config.write_text(json.dumps({"network": {"unix": {"address": "socket"}}, "log": {"level": "warning"}}))
        with _process([sys.executable, "-c", _BESTERD, str(config)], stdout=subprocess.PIPE) as server:
            assert server.stdout is not None
            if not any(line.endswith(b"is ready\n") for line in server.stdout):
                fail("the temporary server did not start", BAD)
            yield config


@contextmanager
def prepared(config: Config, control: Control) -> Iterator[Ready]:
    """Creates a temporary account and starts a temporary handler; removes both at the end."""
    from bester.cli.control import ControlError

    name = f"bench-{secrets.token_hex(4)}"
    password = secrets.token_urlsafe()
    try:
        status = control.run("status")
        url = _url(status["listeners"])
        control.run("addAccount", username=name, password=password)
    except ControlError as error:
        fail(str(error), NO_CONNECTION)
    try:
        environment = os.environ | {"BESTER_HANDLERS": str(config.handlers.address), "BESTER_TYPE": name}
        echo = [sys.executable, "-m", "bester.demo.echo"]
        with _process(echo, env=environment, stderr=subprocess.DEVNULL) as handler:
            _await_type(control, name, handler)
            yield Ready(url, name, password, name, status["pid"])
    finally:
        control.run("removeAccount", username=name)


def _await_type(control: Control, name: str, handler: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + WAIT_S
    while name not in control.run("listTypes"):
        if handler.poll() is not None or time.monotonic() > deadline:
            fail("the echo handler did not attach", BAD)
        time.sleep(0.02)


def _url(listeners: list[str]) -> str:
    """Returns the URL of a listener without TLS, because a TLS client would have to know the certificate."""
    kinds = {listener.partition("://")[0]: listener.partition("://")[2] for listener in listeners}
    if "unix" in kinds:
        return "bester+unix:" + quote(kinds["unix"])
    address = kinds.get("tcp4") or kinds.get("tcp6")
    if address is None:
        fail("the server listens only with TLS; give --to, --ca and --user", BAD)
    return "bester://" + address.replace("0.0.0.0:", "127.0.0.1:").replace("[::]:", "[::1]:")


@contextmanager
def _process(command: list[str], **options: object) -> Iterator[subprocess.Popen[bytes]]:
    process: subprocess.Popen[bytes] = subprocess.Popen(command, stdin=subprocess.DEVNULL, **options)  # type: ignore[call-overload]
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()
