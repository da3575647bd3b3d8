"""What the guard says about messages."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from msgspec import Raw

from bester import Accept, Client, Drop, Handler, Hold, Refuse, Refused, Reply, Request, Sender
from bester.testing import server
from bester_gadgets.guard import blocklist
from bester_gadgets.guard.blocklist import Blocklist
from bester_gadgets.guard.gadget import Guard, read
from bester_gadgets.guard.settings import GuardSettings
from bester_gadgets.settings import SettingsError


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def guard(folder: Path = Path(), **tree: Any) -> Guard:
    settings = GuardSettings.model_validate(tree)
    return Guard(settings, Blocklist(settings.blocked, folder))


def asked(
    user: str | None = None, server: str | None = None, data: Any = None, *, dry_run: bool = False, guards: str = "chat"
) -> Request:
    sender = Sender(user, server or ("j.example" if user is not None else None), user is not None or server is not None)
    return Request("guard", "", sender, dry_run=dry_run, guards=guards, raw=Raw(json.dumps(data).encode()))


def code(verdict: Any, question: Request) -> str:
    with pytest.raises(Refuse) as refused:
        verdict(question)
    return refused.value.code


def test_without_settings_all_pass() -> None:
    one = guard()
    assert [one.judge(asked("t")), one.judge(asked(server="k.example")), one.judge(asked())] == [Accept()] * 3


def test_blocked_senders_are_refused() -> None:
    one = guard(blocked={"accounts": ["spam*", "Eve"], "servers": ["*.spam.example"]})
    assert [code(one.judge, asked(name)) for name in ("spammer", "eve", "spam")] == ["guard.blocked"] * 3
    assert code(one.judge, asked(server="a.spam.example")) == "guard.blocked"
    assert one.judge(asked("ham")) == one.judge(asked("a.spam.example")) == one.judge(asked(server="eve")) == Accept()
    assert guard(blocked={"accounts": ["e"], "silently": True}).judge(asked("e")) == Drop()


def test_each_sender_has_its_rate() -> None:
    one = guard(accounts={"perSecond": 0.001, "burst": 2}, servers={"perSecond": 0.001, "burst": 1})
    assert [one.judge(asked("t")) for _ in range(2)] == [Accept()] * 2
    assert one.judge(asked("t", dry_run=True)) == Accept()
    with pytest.raises(Refuse) as refused:
        one.judge(asked("t"))
    assert (refused.value.code, refused.value.temporary) == ("guard.rate", True)
    assert one.judge(asked("g")) == one.judge(asked(server="k.example")) == one.judge(asked()) == Accept()
    assert code(one.judge, asked(server="k.example")) == code(one.judge, asked()) == "guard.rate"


def test_what_strangers_send_is_held() -> None:
    assert guard().meet(asked(server="k.example")) == Hold()
    one = guard(firstContact={"recipient": "to.0.name"})
    assert one.meet(asked(server="k.example", data={"to": [{"name": "g"}]})) == Hold("g")
    wrong: list[Any] = [None, {}, {"to": []}, {"to": [{"name": 5}]}, {"to": [{"name": ""}]}, {"to": {"x": 1}}, [1]]
    for data in wrong:
        assert code(one.meet, asked(server="k.example", data=data)) == "guard.noRecipient"
    assert code(guard().meet, asked()) == "guard.unproven"
    assert guard(firstContact={"unproven": "hold"}).meet(asked()) == Hold()


def test_only_the_server_asks() -> None:
    assert code(guard().judge, asked("t", guards="")) == code(guard().meet, asked("t", guards="")) == "guard.onlyGuards"


def test_the_file_is_read_again_when_it_changes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file, clock = tmp_path / "blocked", Clock()
    file.write_text("# a comment\neve\n\n@k.example\n")
    settings = GuardSettings.model_validate({"blocked": {"file": "blocked", "accounts": ["always"]}})
    found = Blocklist(settings.blocked, tmp_path, clock)

    def blocked() -> list[str]:
        clock.now += blocklist.LOOK_S
        return [name for name in ("eve", "t", "always") if Sender(name, "j.example", True) in found]

    assert blocked() == ["eve", "always"]
    assert Sender(None, "k.example", True) in found
    file.write_text("t")
    assert Sender("t", "j.example", True) not in found  # it was looked at just now
    assert blocked() == ["t", "always"]
    file.unlink()
    assert blocked() == ["t", "always"]
    file.write_bytes(b"\xff" * 100)
    assert blocked() == ["t", "always"]
    file.write_bytes(b"e" * (blocklist.MAX_FILE_BYTES + 1))
    assert blocked() == ["t", "always"]
    assert caplog.text.count("the blocked senders stay as they were") == 3
    other = tmp_path / "other"
    other.write_text("eve")
    os.replace(other, file)
    assert blocked() == ["eve", "always"]


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('type = "builtin"', "type"),
        ("concurrency = 0", "concurrency"),
        ("[accounts]\nburst = 5", "accounts.perSecond"),
        ("[accounts]\nperSecond = 0", "accounts.perSecond"),
        ('[firstContact]\ntype = "guard"', "(top level)"),
        ('[firstContact]\nunproven = "drop"', "firstContact.unproven"),
        ("[blocked]\nacounts = []", "blocked.acounts"),
    ],
)
def test_settings_that_are_wrong(tmp_path: Path, text: str, key: str) -> None:
    file = tmp_path / "guard.toml"
    file.write_text(text)
    with pytest.raises(SettingsError, match=f"^{key.replace('(', '.').replace(')', '.')}: "):
        read(file)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"blocked.file: No such file"):
        guard(tmp_path, blocked={"file": "nothing"})


async def test_a_server_asks_it() -> None:
    one = guard(blocked={"accounts": ["eve"]})
    guards = {"handlers": {"guards": [{"guard": "guard", "onFailure": "reject"}]}}
    async with server(guards) as running:
        handler = Handler(running.handlers_path)
        handler.on("guard")(one.judge)
        handler.on("echo")(lambda message: Reply())
        async with handler:
            async with Client(running.url("t")) as t:
                assert (await t.ask("echo", 5)).data == 5
                with pytest.raises(Refused, match="only the server asks"):
                    await t.ask("guard", 5)
            async with Client(running.url("eve")) as eve:
                with pytest.raises(Refused) as refused:
                    await eve.ask("echo", 5)
                error = refused.value.report.error
                assert error is not None
                assert (error.code, error.reason) == ("rejected", "guard.blocked")
