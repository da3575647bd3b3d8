"""The settings: what is wrong is told at once, and before anything is opened."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from bester_gadgets.mail.program import MailGadget, run
from bester_gadgets.mail.settings import MailSettings
from bester_gadgets.settings import SettingsError, read_settings


def wrong(folder: Path, tree: Any) -> str:
    (folder / "mail.json").write_text(json.dumps(tree))
    with pytest.raises(SettingsError) as error:
        run(folder / "mail.json", print)
    return str(error.value)


def test_all_errors_at_once(tmp_path: Path) -> None:
    tree = {
        "domains": ["-"],
        "listen": {"port": 70000, "protocol": "imap"},
        "smarthost": {"tls": "x"},
        "send": {"allow": ["a b"]},
        "retry": {"first": 0},
        "aliases": {"x": []},
        "y": 1,
    }
    lines = wrong(tmp_path, tree).splitlines()
    keys = {line.partition(": ")[0] for line in lines}
    assert keys == {
        "domains",
        "listen.port",
        "listen.protocol",
        "smarthost.address",
        "smarthost.tls",
        "send.allow",
        "retry.first",
        "aliases.x",
        "y",
    }


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"listen": {"requireTls": True}}, "requireTls needs a certificate"),
        ({"listen": {"certificate": "x"}}, "given together"),
        ({"listen": {"certificate": "x", "key": "y", "requireTls": True, "protocol": "lmtp"}}, "is for smtp"),
        ({"listen": {"certificate": "x", "key": "y"}}, "listen.certificate: "),
        ({"listen": {"address": "192.0.2.1"}}, "cannot be listened on"),
        ({"smarthost": {"address": "x", "tls": "none"}}, "insecure = true allows it"),
        ({"smarthost": {"address": "x", "password": "hidden"}}, "username goes with password"),
        ({"smarthost": {"address": "x", "username": "u", "password": "hidden", "passwordFile": "f"}}, "not both"),
        ({"smarthost": {"address": "x", "username": "u", "passwordFile": "none"}}, "smarthost.passwordFile: "),
        ({"smarthost": {"address": "x", "ca": "none"}}, "smarthost.ca: "),
        ({"retry": {"first": 2, "max": 1}}, "at least first"),
        ({"database": "none/mail.sqlite"}, "cannot be opened"),
    ],
    ids=str,
)
def test_what_does_not_fit(tmp_path: Path, more: Any, words: str) -> None:
    told = wrong(tmp_path, {"domains": ["a.example"]} | more)
    assert words in told
    assert "hidden" not in told


async def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = {"port": taken.getsockname()[1]}
        tree = {"domains": ["a.example"], "database": str(tmp_path / "x"), "listen": listen}
        with pytest.raises(SettingsError, match="cannot be listened on"):
            await MailGadget(MailSettings.model_validate(tree)).start()


def test_paths_are_seen_from_the_file(tmp_path: Path) -> None:
    (tmp_path / "mail.toml").write_text('domains = ["A.Example"]\n[smarthost]\naddress = "x"\nca = "ca.pem"\n')
    settings = read_settings(tmp_path / "mail.toml", MailSettings).beside(tmp_path)
    assert settings.domain == "a.example"
    assert settings.database == str(tmp_path / "mail.sqlite")
    assert settings.handlers is None
    assert settings.smarthost is not None
    assert settings.smarthost.ca == str(tmp_path / "ca.pem")
