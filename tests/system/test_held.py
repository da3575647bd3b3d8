"""What guards hold, decided with ``bester held``: by the operators, and by an account."""

from __future__ import annotations

import json

from tests.system.conftest import PASSWORD, Commands
from tests.waiting import until

from bester import Client, Handler, Hold, Reply, Request

GUARD = {"guard": "watch", "for": {"types": ["chat"]}, "onFailure": "reject"}


def rows(commands: Commands, *more: str) -> list[str]:
    listed = commands.bester("held", "list", "--json", *more)
    assert listed.returncode == 0, listed.stderr
    return [row["data"] for row in json.loads(listed.stdout)["held"]]


async def test_from_the_guard_to_the_handler(commands: Commands) -> None:
    commands.configure(handlers={"guards": [GUARD]}, accounts={"registration": "firstUse"})
    commands.serve()
    handled: list[object] = []
    handler = Handler(commands.folder / "besterHandlers")

    @handler.on("watch")
    def watch(request: Request) -> Hold:
        return Hold(request.data["to"])  # an account, or nobody but the operators

    @handler.on("chat")
    def chat(request: Request) -> Reply:
        handled.append((request.sender.user, request.data))
        return Reply()

    async with handler:
        async with Client(commands.url, username="g", password=PASSWORD):
            pass  # now there is such an account
        async with Client(commands.url, username="t", password=PASSWORD) as t:
            for holder, text in ((None, "one"), ("g", "two"), (None, "three")):
                report = await t.send("chat", {"to": holder, "text": text})
                assert [result.status for result in report.results] == ["held"]
    account = ("--to", commands.url, "--user", "g")
    assert [json.loads(data)["text"] for data in rows(commands)] == ["one", "three"]
    assert [json.loads(data)["text"] for data in rows(commands, *account)] == ["two"]
    listed = commands.bester("held", "list")
    assert "user t" in listed.stdout
    assert "watch" in listed.stdout
    assert commands.bester("held", "refuse", "1").stdout == "1 messages removed\n"
    assert commands.bester("held", "release", "--from-user", "t", "--always").stdout == "1 messages released\n"
    assert commands.bester("held", "release", "2", *account).stdout == "1 messages released\n"
    assert "no messages\ntrusted: user t\n" in commands.bester("held", "list").stdout
    for wrong in (("release",), ("refuse", "1", "--from-user", "t"), ("release", "1", "--always")):
        assert commands.bester("held", *wrong).returncode == 2
    assert commands.bester("held", "refuse", "--from-user", "t").stdout == "0 messages removed\n"
    assert commands.bester("held", "list").stdout == "no messages\n"
    again = Handler(commands.folder / "besterHandlers")
    again.on("chat")(chat)
    async with again:
        await until(lambda: len(handled) == 2)
    assert sorted(str(one) for one in handled) == sorted(
        str(("t", {"to": holder, "text": text})) for holder, text in (("g", "two"), (None, "three"))
    )
