"""The two servers of ``towns``, and their chats, as processes."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any
from urllib.parse import quote

from gadgets.tests.chat.towns import trees
from tests.ports import free_port
from tests.system.conftest import BIN, Process

from bester.testing import PASSWORD


class House:
    """One server and its chat, each a process."""

    def __init__(self, folder: Path, tree: dict[str, Any]) -> None:
        folder.mkdir()
        self.folder = folder
        self.tree = tree
        (folder / "server.json").write_text(json.dumps(tree))
        (folder / "chat.toml").write_text("retryS = 0.2\n")
        self.server: Process | None = None
        self.chat: Process | None = None

    def start(self) -> None:
        self.start_server()
        self.start_chat()

    def start_server(self) -> None:
        self.begin_server().wait_for("is ready")

    def start_chat(self) -> None:
        self.begin_chat().wait_for_log("attached to")

    def begin_server(self) -> Process:
        self.server = Process([str(BIN / "besterd"), "server.json"], self.folder)
        return self.server

    def begin_chat(self) -> Process:
        command = [str(BIN / "bester"), "gadget", "chat", "chat.toml", "--database", "chat.db"]
        self.chat = Process(command, self.folder)
        return self.chat

    def kill_server(self) -> None:
        assert self.server is not None
        self.server.stop(signal.SIGKILL)
        self.server.output.close()

    def kill_chat(self) -> None:
        assert self.chat is not None
        self.chat.stop(signal.SIGKILL)
        self.chat.output.close()

    def end(self) -> None:
        for process in (self.chat, self.server):
            if process is not None:
                process.end()

    def url(self, user: str) -> str:
        return f"bester://{quote(user, safe='')}:{PASSWORD}@127.0.0.1:{self.tree['network']['tcp4']['port']}"

    @property
    def web(self) -> str:
        return f"http://127.0.0.1:{self.tree['network']['web']['port']}"


class Houses:
    """Both, with listeners ``web``."""

    def __init__(self, folder: Path) -> None:
        found = trees(folder)
        for tree in found.values():
            tree["network"]["types"].append("web")
            tree["network"]["web"] = {"port": free_port(), "address": "127.0.0.1"}
        self.a, self.b = (House(folder / name, tree) for name, tree in found.items())

    def start(self) -> None:
        """Starts all of them side by side."""
        houses = (self.a, self.b)
        for server in [house.begin_server() for house in houses]:
            server.wait_for("is ready")
        for chat in [house.begin_chat() for house in houses]:
            chat.wait_for_log("attached to")

    def end(self) -> None:
        self.a.end()
        self.b.end()
