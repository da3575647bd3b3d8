"""``bester send --route``, ``trace`` and ``why`` with a real server."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.system.conftest import Commands

HANDLER = """
from bester import Handler, SendClients
handler = Handler("besterHandlers")
@handler.on("chat")
def chat(message):
    return SendClients(["t"], message.data)
handler.run()
"""


def test_where_a_message_went(commands: Commands) -> None:
    commands.configure(accounts={"registration": "firstUse"})
    commands.serve()
    (commands.folder / "chat.py").write_text(HANDLER)
    commands.start("python", "chat.py").wait_for_log("attached")
    send = ("send", "--to", commands.url, "--user", "t")
    plan = commands.bester(*send, "--dry-run", "chat", '"x"')
    assert plan.returncode == 0, plan.stderr
    assert "plan" in plan.stdout
    assert "a.example: mailbox t" in plan.stdout
    assert "planned" in plan.stdout
    route = json.loads(commands.bester(*send, "--route", "--json", "chat", '"x"').stdout)["route"]
    assert [(step["step"], step["name"], step["status"]) for step in route] == [
        ("handler", "chat", "good"),
        ("mailbox", "t", "stored"),
    ]
    assert commands.bester(*send, "poker", '"x"').returncode == 1
    rows = [json.loads(line) for line in commands.bester("trace", "--json").stdout.splitlines()]
    assert [row["outcome"] for row in rows] == ["noHandler", "good", "good"]
    assert "mailbox t" in commands.bester("trace", rows[1]["trace"]).stdout
    assert "noHandler" in commands.bester("trace", "--outcome", "bad", "--since", "10m").stdout
    listed = [line.split()[0] for line in commands.bester("trace").stdout.splitlines() if "chat" in line]
    assert [commands.bester("trace", one, "--json").stdout.count("\n") for one in listed] == [1, 1]
    assert commands.bester("trace", "nothing").returncode == 1
    assert commands.bester("trace", "--since", "soon").returncode == 2
    told = commands.bester("why").stdout
    assert "1 x noHandler for type poker" in told
    assert "start it" in told
    assert json.loads(commands.bester("why", "--json").stdout)["count"] == 1
