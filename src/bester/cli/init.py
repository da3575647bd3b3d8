"""``bester init``: creates a folder with everything that a first server needs."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import typer

from bester.cli.output import BAD, USAGE, fail, say, say_json, warn
from bester.cli.settings import JsonOption
from bester.installation import document

CONFIG, CERTIFICATE, KEY, ECHO, CLIENTS = "bester.toml", "certificate.pem", "key.pem", "echo.py", "besterSocket"


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder to create.", show_default=False)],
    name: Annotated[
        str | None, typer.Option("--name", help="The server's name. Default: the host's name.", show_default=False)
    ] = None,
    port: Annotated[
        int, typer.Option("--port", min=1027, max=65535, help="The TLS port; the port without TLS is 3 lower.")
    ] = 2223,
    force: Annotated[bool, typer.Option("--force", help="Overwrite existing files.")] = False,
    json: JsonOption = False,
) -> None:
    """Create a folder with everything that a first server needs.

    It contains a configuration, a self-signed certificate, and a handler. The configuration is safe as it is: nobody
    can register, only servers that prove their names are accepted, and the server listens without TLS only on this
    machine.
    """
    from bester.config.parts import host_name
    from bester.config.values import is_server_name
    from bester.net.selfsigned import make_certificate

    chosen = (name or host_name()).lower()
    if not is_server_name(chosen):
        fail(f"not a server's name: {chosen!r}; give a host's name, such as chat.example", USAGE)
    there = [file for file in (CONFIG, CERTIFICATE, KEY, ECHO) if os.path.lexists(folder / file)]
    if there and not force:
        fail(f"{folder} has {', '.join(there)} already; choose another folder, or overwrite with --force", BAD)
    certificate, key, fingerprint = make_certificate(chosen)
    try:
        _make_folder(folder)
        for file, content, mode in (
            (KEY, key, 0o600),
            (CERTIFICATE, certificate, 0o644),
            (ECHO, _echo().encode(), 0o755),
            (CONFIG, _configuration(chosen, port).encode(), 0o644),
        ):
            _write(folder / file, content, mode, force)
    except OSError as error:
        fail(f"{error.filename or folder}: {error.strerror or error}", BAD)
    _check(folder)
    path = folder / CONFIG
    url = "bester+unix:" + quote(str(folder.absolute() / CLIENTS))
    commands = [
        ["besterd", str(path)],
        ["bester", "account", "add", "alice", "--config", str(path)],
        ["bester", "ask", "--to", url, "--user", "alice", "echo", '"Hello"'],
    ]
    if json:
        say_json({"config": str(path), "name": chosen, "fingerprint": fingerprint, "next": commands})
        return
    say(f"{path} is ready: a server named {chosen}; others know it by its key's fingerprint:\n  {fingerprint}")
    say("Next: start the server, create an account, and send a message:")
    for command in commands:
        say("  " + shlex.join(command))


def _configuration(name: str, port: int) -> str:
    text = TEMPLATE.replace("NAME", name).replace("CONFIGURATION_DOCUMENT", document("configuration.md"))
    return text.replace("TLS_PORT", str(port)).replace("PLAIN_PORT", str(port - 3))


def _make_folder(folder: Path) -> None:
    if not folder.is_dir():
        folder.mkdir(mode=0o700, parents=True)
    elif folder.stat().st_mode & 0o077:
        warn(f"warning: other users can read the folder {folder}; it existed already; make it private with chmod 700")


def _write(path: Path, content: bytes, mode: int, force: bool) -> None:
    if force:
        path.unlink(missing_ok=True)
    # Never through a link, and never readable for other users, not even for a moment.
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as file:
        file.write(content)
        os.fchmod(file.fileno(), mode)


def _check(folder: Path) -> None:
    """Removes the files and ends the command if a server could not start there; usually the path is too long."""
    from bester.config import ConfigError, load

    try:
        load(folder / CONFIG)
    except ConfigError as error:
        for file in (CONFIG, CERTIFICATE, KEY, ECHO):
            (folder / file).unlink(missing_ok=True)
        fail(f"a server cannot run in {folder}:\n{error}", BAD)


def _echo() -> str:
    python = sys.executable
    # The kernel splits a shebang at its first space, and cuts a long one.
    if " " not in python and len(python) < 120:
        return f"#!{python}\n{ECHO_SOURCE}"
    # The shell sees two commands, the first of which never returns; Python sees a string.
    return f"#!/bin/sh\n'''exec' {shlex.quote(python)} \"$0\"\n' '''\n{ECHO_SOURCE}"


ECHO_SOURCE = '''"""Answers every message with its own data. The server starts this for messages of type echo."""

from bester import Handler, Reply, Request

handler = Handler(classic=True)


@handler.on("echo")
def echo(message: Request) -> Reply:
    return Reply(message.raw)


handler.run()
'''

TEMPLATE = """\
# A Bester server. All keys: CONFIGURATION_DOCUMENT. Check this file with: bester check bester.toml
# Relative paths are relative to this file's folder.

[server]
# The name by which other servers know this one.
name = "NAME"

[network]
# Clients and handlers on this machine: bester+unix:/PATH/besterSocket
unix = { address = "besterSocket" }
# Without TLS, so only for this machine: bester://127.0.0.1:PLAIN_PORT
tcp4 = { address = "127.0.0.1", port = PLAIN_PORT }
# With TLS, for everybody: besters://NAME:TLS_PORT. The certificate is self-signed: clients need its key's fingerprint
# (--fingerprint; bester certificate show), until you replace it by a certificate from an authority.
tls = { address = "0.0.0.0", port = TLS_PORT, certificate = "certificate.pem", key = "key.pem" }

[handlers]
# The socket to which your own handlers attach; they need no entry here.
address = "besterHandlers"

# A handler that the server starts and keeps running.
[handlers.typeMap.echo]
handlerBinary = "./echo.py"
unixDomainSocketPath = "echoSocket"

[informer]
# The socket on which handlers ask about this server.
address = "bInformer"

[control]
# The operator's socket, only for this user and root: bester status, bester account, ...
address = "besterControl"

[storage]
path = "bester.db"

[accounts]
# "closed": only you create accounts. "open": everybody can. "firstUse": the first login creates the account.
registration = "closed"

[federation]
# "verified": only servers that prove their names. "local": also others, but only from this machine. "open": all.
policy = "verified"

# Other servers, each with its key's fingerprint. To add one: bester peer add other.example 192.0.2.1:2223
# [federation.servers."other.example"]
# address = "192.0.2.1:2223"
# fingerprint = "sha256:..."

[log]
level = "info"
format = "text"
"""
