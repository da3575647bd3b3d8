"""Lets clients, handlers, servers and operators misbehave on all sockets of a real besterd.

Run ``python -m fuzz.fuzz_sockets --seconds 600 --seed 1``. Frames are right, mutated, or end in the middle; peers come,
leave, don't read, and die. The server has to live, its log to show no fault of its own, and no connection to be left
when they are gone. It prints the server's memory as time passes, and ends with status 1 if something is wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import signal
import struct
import sys
import tempfile
import time
from asyncio.subprocess import Process
from pathlib import Path
from typing import Any

import uvloop
from bench.machine import memory_kib
from bench.peers import BESTERD, Accounts
from fuzz.misbehaving import ACCOUNTS, CLASSIC, World

from bester.compiled import build
from bester.net.selfsigned import make_certificate

FAULTS = re.compile(r"Traceback|Exception in|expected; got|allegedly unreachable|could not be handled|never retrieved")
"""What a log may not say, whatever comes in."""
QUIET_S = 8.0
"""How long the server may take to end all connections whose peers are gone; longer than its deadlines."""


def configuration(folder: Path) -> dict[str, Any]:
    """Writes a certificate, and returns a configuration with all listeners and small limits."""
    certificate, key, _ = make_certificate("j.example")
    (folder / "j.pem").write_bytes(certificate)
    (folder / "j.key").write_bytes(key)
    tcp = {"port": 0, "address": "127.0.0.1"}
    papers = {"certificate": "j.pem", "key": "j.key"}
    return {
        "server": {"name": "j.example"},
        "network": {
            "types": ["unix", "tcp4", "tls", "web"],
            "unix": {"address": "clients"},
            "tcp4": tcp,
            "tls": tcp | papers,
            "web": tcp,
        },
        "handlers": {"typeMap": {CLASSIC: {"unixDomainSocketPath": "classicSock", "timeout": 1}}},
        "federation": {"policy": "open", "rate": 100_000, "retryMin": 0.2, "retryFor": 2},
        "limits": {
            "maxMessage": 65_536,
            "maxSendQueue": 262_144,
            "maxInFlight": 64,
            "handlerTimeout": 1,
            "frameTimeout": 2,
            "authenticationTimeout": 2,
            "mailboxMessages": 50,
            "receiptRows": 1000,
            "maxUnauthenticatedPerAddress": 200,
        },
        "log": {"level": "warning"},
    }


async def status(folder: Path) -> dict[str, Any]:
    reader, writer = await asyncio.open_unix_connection(folder / "besterControl", limit=1 << 22)
    body = b'{"payload":{"type":"builtin","id":"1","data":{"command":{"type":"status"}}}}'
    writer.write(struct.pack("<I", len(body)) + body)
    size = struct.unpack("<I", await reader.readexactly(4))[0]
    found: dict[str, Any] = json.loads(await reader.readexactly(size))["payload"]["data"]
    writer.close()
    return found


async def run(folder: Path, seconds: float, seed: int) -> list[str]:
    """Runs it all; returns what is wrong."""
    (folder / "server.conf").write_text(json.dumps(configuration(folder)))
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", BESTERD, "server.conf", cwd=folder, stdout=asyncio.subprocess.PIPE, stderr=log
        )
    try:
        return await watch(folder, process, seconds, seed)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def watch(folder: Path, process: Process, seconds: float, seed: int) -> list[str]:
    """Lets them come to a server that is starting, until the time is over or it is dead; returns what is wrong."""
    assert process.stdout is not None
    ports = {}
    while not (line := (await process.stdout.readline()).decode().strip()).endswith("is ready"):
        if found := re.search(r"listening on (\w+)://.*:(\d+)", line):
            ports["web" if found[1].startswith("http") else found[1]] = int(found[2])
        elif not line:
            return [f"it did not start: {(folder / 'log').read_text()}"]
    world = World(folder, random.Random(seed), ports)
    wrong = []
    ended = asyncio.ensure_future(process.wait())
    coming = asyncio.ensure_future(world.all_come(seconds))
    began = time.monotonic()
    while not coming.done():
        await asyncio.wait([coming, ended], timeout=20, return_when=asyncio.FIRST_COMPLETED)
        if ended.done():
            coming.cancel()
            wrong.append(f"it died: {ended.result()}")
            break
        print(
            f"{time.monotonic() - began:6.0f} s: {memory_kib([process.pid]) / 1024:6.1f} MiB, {dict(world.done)}",
            flush=True,
        )
    await asyncio.wait([coming])
    if not wrong:
        coming.result()
        until = time.monotonic() + QUIET_S
        while (counted := await status(folder))["connections"] > 1 and time.monotonic() < until:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        if counted["connections"] > 1:
            wrong.append(f"{counted['connections'] - 1} connections are left")
        print(f"{memory_kib([process.pid]) / 1024:.1f} MiB at the end: {json.dumps(counted)}")
        process.send_signal(signal.SIGTERM)
        if (code := await asyncio.wait_for(ended, 30)) != 0:
            wrong.append(f"it ended with {code}")
    text = (folder / "log").read_text(errors="replace")
    print(f"{len(text.splitlines())} lines in the log")
    wrong += [f"the log: {line}" for line in text.splitlines() if FAULTS.search(line)][:20]
    if wrong:
        kept = Path(tempfile.mkdtemp(prefix="fuzz-sockets-")) / "log"
        kept.write_text(text)
        wrong.append(f"the log is {kept}")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description="Lets peers of all kinds misbehave on a real server's sockets.")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=None)
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(2**32)
    print(f"seed {seed}, {build()}", flush=True)
    with tempfile.TemporaryDirectory(prefix="bester-fuzz-") as folder:
        path = Path(folder)
        os.rename(Accounts(path, ACCOUNTS).path, path / "bester.db")
        wrong = uvloop.run(run(path, options.seconds, seed))
    for line in wrong:
        print(line, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
