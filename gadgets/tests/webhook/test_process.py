"""The installed webhook between a site and a server, through restarts of both processes."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import time

import aiohttp
import pytest
from gadgets.tests.webhook.sites import PATIENCE_S, SECRET, TOKEN, signed, site
from tests.ports import free_port
from tests.system.conftest import PASSWORD, Commands
from tests.waiting import until

from bester import Client, Informer
from bester_gadgets.settings import SettingsError
from bester_gadgets.webhook.main import read, run

REPLY = {"header": {"status": "0", "command": {"type": "reply"}}, "data": "done"}
AS_BELL = {"authorization": f"Bearer {TOKEN}"}


def write(commands: Commands, url: str, port: int) -> None:
    (commands.folder / "token").write_text(TOKEN + "\n")
    (commands.folder / "secret").write_text(SECRET)
    tree = {
        "hooks": {"shout": {"types": ["shout"], "url": url, "secretFile": "secret"}},
        "push": {
            "bell": {"type": "bell", "to": ["g"], "tokenFile": "token"},
            "door": {"type": "door", "to": ["g"], "secretFile": "secret"},
        },
        "listen": {"port": port},
    }
    (commands.folder / "webhook.json").write_text(json.dumps(tree))


async def attached(commands: Commands) -> None:
    """Returns when both halves of the webhook are attached."""
    async with asyncio.timeout(PATIENCE_S), Informer(commands.folder / "bInformer") as informer:
        while await informer.list_types() != ["shout", "webhook"]:
            await asyncio.sleep(0.01)


async def test_both_ways_and_through_restarts(commands: Commands) -> None:
    commands.configure(accounts={"registration": "firstUse"})
    port = free_port()
    url = f"http://127.0.0.1:{port}/push"
    each = aiohttp.TCPConnector(force_close=True)
    async with site(REPLY) as there, aiohttp.ClientSession(connector=each) as session:
        write(commands, there.url, port)
        server = commands.serve()
        hook = commands.start("bester", "gadget", "webhook", "webhook.json")
        hook.wait_for_log("listening on")
        await attached(commands)
        async with Client(commands.url, username="g", password=PASSWORD) as g:
            assert (await g.ask("shout", 1, timeout=PATIENCE_S)).data == "done"
            headers = signed(b"{}")
            async with session.post(f"{url}/door", data=b"{}", headers=headers) as response:
                assert response.status == 200
            assert (await g.receive()).type == "door"

        # The server goes away and comes back; the gadget attaches again by itself.
        assert server.stop() == 0
        commands.serve()
        await attached(commands)
        async with Client(commands.url, username="g", password=PASSWORD) as g:
            async with session.post(f"{url}/bell", data=b'{"data": 2}', headers=AS_BELL) as response:
                assert (response.status, (await g.receive()).data) == (200, 2)
            assert (await g.ask("shout", 3, timeout=PATIENCE_S)).data == "done"

            # A new process does not know what the one before it took, and refuses what may be a replay.
            assert hook.stop(signal.SIGTERM) == 0
            assert "Traceback" not in hook.told()
            signed_at = int(headers["webhook-timestamp"])
            await until(lambda: int(time.time()) > signed_at)  # signatures have whole seconds
            hook = commands.start("bester", "gadget", "webhook", "webhook.json")
            hook.wait_for_log("listening on")
            await attached(commands)
            async with session.post(f"{url}/door", data=b"{}", headers=headers) as response:
                assert (response.status, response.headers["retry-after"]) == (503, "1")
            async with session.post(f"{url}/door", data=b"{}", headers=signed(b"{}", "msg_2")) as response:
                assert (response.status, (await g.receive()).type) == (200, "door")
        assert [call.message["data"] for call in there.calls] == [1, 3]
        assert there.calls[0].headers["webhook-id"] != there.calls[1].headers["webhook-id"]


def test_what_is_wrong_is_told(commands: Commands) -> None:
    (commands.folder / "webhook.toml").write_text(
        f'[hooks.a]\ntypes = ["x"]\nurl = "http://example.com"\nsecret = "{SECRET}"\n'
        f'[hooks.b]\ntypes = ["x"]\nurl = "https://example.com"\nsecret = "hidden"\n'
        f'[push.c]\ntype = "x"\nto = ["g"]\ntokenFile = "missing"\n'
        f'[push."d/e"]\ntype = "x"\nto = ["g"]\ntoken = "{TOKEN}"\n'
    )
    done = commands.bester("gadget", "webhook", "webhook.toml")
    assert done.returncode == 2
    assert "hidden" not in done.stderr
    assert SECRET not in done.stderr
    for told in ("hooks.a: ", "plain = true", "hooks.b: ", "whsec_", "push.c: ", "missing: No such file", "push.d/e"):
        assert told in done.stderr, done.stderr
    (commands.folder / "webhook.toml").write_text(
        f'[push.c]\ntype = "x"\nto = ["g"]\ntoken = "{TOKEN}"\n[listen]\ncertificate = "none.pem"\nkey = "none.key"\n'
    )
    with pytest.raises(SettingsError, match=r"listen\.certificate"):
        asyncio.run(run(commands.folder / "webhook.toml", read(commands.folder / "webhook.toml"), None))
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        (commands.folder / "webhook.toml").write_text(
            f'[push.c]\ntype = "x"\nto = ["g"]\ntoken = "{TOKEN}"\n[listen]\nport = {port}\n'
        )
        done = commands.bester("gadget", "webhook", "webhook.toml")
    assert (done.returncode, f"listen: 127.0.0.1:{port} cannot be listened on" in done.stderr) == (1, True)
    assert "Traceback" not in done.stderr
