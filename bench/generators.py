"""The commands of the lean load generators: those in C where there is a compiler, else those in Python.

The ones in C (``bench/load/*.c``) are several times as fast, so that the server is what limits a load. They know no
more of a protocol than they must: the bytes are built here, of :mod:`bench.load.dialects`, and are handed over in a
file. Both kinds write the same lines, which :class:`bench.run.Load` reads.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

from bench.load import clients, fan
from bench.load.dialects import ATTACH, CLASSIC, LEAN, NAME_BYTES, PASS, REPLY, TYPE, Lean, Nats, frame
from bench.programs import module

SOURCES = Path(__file__).parent / "load"
BUILT = Path(__file__).parents[1] / "build" / "bench"
"""Where they are kept, by what they are made of."""
OPTIONS = ("-std=c11", "-O2", "-Wall", "-Wextra")


def compiler() -> str | None:
    """Returns the C compiler, if there is one."""
    return next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)


def build(source: Path, *options: str) -> Path:
    """Compiles one file of C, unless that is done already, and returns the result.

    Raises:
        RuntimeError: the compiler does not want it, and says why.
    """
    command = (compiler() or "cc", *OPTIONS)
    texts = [source, *sorted(source.parent.glob("*.h"))]
    digest = hashlib.sha256(repr((command, options)).encode() + b"".join(text.read_bytes() for text in texts))
    built = BUILT / f"{source.stem}-{digest.hexdigest()[:16]}"
    if not built.exists():
        BUILT.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=BUILT) as folder:
            made = Path(folder) / "made"
            whole = [*command, "-o", str(made), str(source), *options]
            done = subprocess.run(whole, capture_output=True, text=True, check=False)
            if done.returncode:
                raise RuntimeError(f"{source.name} does not compile:\n{done.stderr}")
            os.replace(made, built)
    return built


@functools.cache
def missing() -> str | None:
    """Returns why there are no generators in C here, if so."""
    if compiler() is None:
        return "there is no C compiler"
    try:
        build(SOURCES / "clients.c")
    except RuntimeError as error:  # such as one without the headers of the C library
        return str(error)
    return None


def clients_command(plan: clients.Plan, folder: Path) -> tuple[str, ...]:
    """Returns the command of the clients; what they are given is in the folder."""
    if missing() or plan.dialect not in LEAN or plan.counts:
        return module("clients", json.dumps(plan._asdict()))
    dialect = LEAN[plan.dialect]()
    script = _dialect(dialect)
    for number in range(plan.clients):
        script += [dialect.hello(number), dialect.message(number, plan.size), dialect.replies(number, plan.size)]
    work = (plan.port, plan.clients, plan.outstanding, plan.warm_up, plan.seconds, plan.windows)
    return (str(build(SOURCES / "clients.c")), _written(script, folder), *map(str, work))


def fan_command(plan: fan.Plan, folder: Path) -> tuple[str, ...]:
    """Returns the command of a sender and those to whom it sends."""
    if missing() or plan.counts:
        return module("fan", json.dumps(plan._asdict()))
    dialect = LEAN[plan.dialect]()
    script = [
        *_dialect(dialect),
        dialect.each_gets(plan.size),
        dialect.sender_hello(),
        dialect.to_all(plan.clients, plan.size),
        b"reported" if dialect.reported else b"",
        *(dialect.reader_hello(number) for number in range(plan.clients)),
    ]
    sender = str(plan.port) if plan.dialect == "nats" else plan.address
    work = (plan.port, sender, plan.clients, plan.slow, plan.warm_up, plan.seconds)
    return (str(build(SOURCES / "fan.c")), _written(script, folder), *map(str, work))


def handler_command(kind: str, address: str, folder: Path) -> tuple[str, ...]:
    """Returns the command of a handler: ``bester``, ``pass``, ``classic``, ``nats`` or ``relay``."""
    if missing():
        return module("handlers", kind, address)
    pieces, name_bytes = (PASS, NAME_BYTES) if kind == "pass" else (REPLY, 0)
    if kind == "classic":
        pieces = (CLASSIC[0], b"", b"", CLASSIC[1])
    hello = {"nats": Nats.responder, "relay": b"", "classic": b""}.get(kind, frame(ATTACH % TYPE.encode()))
    role = "attached" if kind in ("bester", "pass") else kind
    script = _written([hello, *pieces], folder)
    return (str(build(SOURCES / "handlers.c")), script, role, address, str(name_bytes))


def relay_command(folder: Path) -> tuple[str, ...]:
    """Returns the command of the relay in C, which is there only with a compiler."""
    return (str(build(SOURCES / "relay.c")), str(folder))


def _dialect(dialect: Lean) -> list[bytes]:
    """Returns what each script of clients begins with."""
    pong = b"PONG\r\n" if dialect.ping else b""
    return [dialect.ping, pong, dialect.good, b"" if isinstance(dialect, Nats) else b"framed"]


def _written(parts: Iterable[bytes], folder: Path) -> str:
    """Writes a script, and returns its path."""
    number, path = tempfile.mkstemp(dir=folder, prefix="script-")
    with open(number, "wb") as script:
        script.write(b"".join(map(frame, parts)))
    return path
