"""A handler of another Unix user at a real server: plugged in, it is a handler, and never the operator."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from tests.system.conftest import Commands

NOBODY = 65534
TAKE_OVER = {"command": {"type": "addAccount", "args": {"username": "x", "password": "p", "admin": True}}}

HANDLER = r"""
import json, os, socket, struct, sys

os.setgroups([])
os.setgid(NOBODY)
os.setuid(NOBODY)

def connected(path):
    made = socket.socket(socket.AF_UNIX)
    made.settimeout(20)
    made.connect(path)
    return made, made.makefile("rb")

def ask(to, message):
    body = json.dumps(message).encode()
    to[0].sendall(struct.pack("<I", len(body)) + body)
    size = to[1].read(4)
    return json.loads(to[1].read(*struct.unpack("<I", size))) if size else None

take_over = json.loads(sys.argv[1])
control = connected("besterControl")
print(json.dumps(ask(control, {"payload": {"type": "builtin", "id": "1", "data": take_over}})))
handler = connected("besterHandlers")
ask(handler, {"header": {"scope": "handler"}, "payload": {"type": "attach", "id": "a", "data": {"types": ["chat"]}}})
for type in ("builtin", "chat"):
    command = {"type": "sendServers", "data": ["unix:besterControl"]}
    header = {"messageType": "push", "id": type, "command": command}
    print(json.dumps(ask(handler, {"header": header, "payload": {"type": type, "data": take_over}})))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_a_handler_of_another_user_does_not_become_the_operator(commands: Commands) -> None:
    commands.configure(accounts={"registration": "closed"})
    commands.serve()
    commands.folder.chmod(0o755)
    for name in ("besterControl", "besterHandlers"):  # as where both users are of one group
        (commands.folder / name).chmod(0o666)
    attempt = subprocess.run(
        [sys.executable, "-I", "-c", HANDLER.replace("NOBODY", str(NOBODY)), json.dumps(TAKE_OVER)],
        cwd=commands.folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert attempt.returncode == 0, attempt.stderr
    at_control, builtin, chat = map(json.loads, attempt.stdout.splitlines())
    assert at_control["header"]["messageType"] == "fatal"
    assert at_control["payload"]["error"]["code"] == "notAllowed"
    assert builtin["payload"]["error"]["code"] == "notAllowed"
    [result] = chat["payload"]["results"]
    assert (result["status"], result["error"]["code"]) == ("failed", "notAllowed")
    listed = commands.bester("account", "list", "--json")
    assert (listed.returncode, listed.stdout.strip()) == (0, "")
