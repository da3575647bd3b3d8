"""The world around the gadget ``mail``: a server with the gadget, and a smarthost that does as it is told."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import aiosmtplib
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from bester import Client
from bester.testing import RunningServer, server
from bester_gadgets.mail.program import MailGadget
from bester_gadgets.mail.settings import MailSettings

PATIENCE_S = 20.0
DOMAIN = "a.example"


@dataclass
class Smarthost:
    """A real SMTP server on a port of its own; ``answers`` are given instead of taking a mail, in their order."""

    tls: ssl.SSLContext | None = None
    login: tuple[str, str] | None = None
    answers: dict[str, list[str]] = field(default_factory=dict)
    """By command: MAIL, RCPT (or an address), DATA; ``close`` cuts the connection, ``hang`` says nothing."""
    port: int = 0
    smtputf8: bool = True
    connections: int = 0
    taken: asyncio.Queue[Envelope] = field(default_factory=asyncio.Queue)
    sessions: list[Session] = field(default_factory=list)

    async def open(self, port: int = 0) -> None:
        self._conversations: set[SMTP] = set()
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._conversation, "127.0.0.1", port)
        self.port = self._server.sockets[0].getsockname()[1]

    def _conversation(self) -> SMTP:
        self.connections += 1
        made = SMTP(
            self,
            hostname="smarthost.example",
            tls_context=self.tls,
            require_starttls=self.tls is not None,
            auth_required=self.login is not None,
            authenticator=self._authenticate,
            enable_SMTPUTF8=self.smtputf8,
        )
        self._conversations.add(made)
        return made

    def _authenticate(self, server: SMTP, session: Session, envelope: Envelope, how: str, data: Any) -> AuthResult:
        assert isinstance(data, LoginPassword)
        return AuthResult(success=(data.login.decode(), data.password.decode()) == self.login, handled=False)

    async def close(self) -> None:
        self._server.close()
        for one in self._conversations:
            if isinstance(one.transport, asyncio.WriteTransport):
                one.transport.abort()
        await self._server.wait_closed()

    async def _answer(self, server: SMTP, *keys: str) -> str | None:
        for key in keys:
            if self.answers.get(key):
                answer = self.answers[key].pop(0)
                if answer == "close":
                    assert isinstance(server.transport, asyncio.WriteTransport)
                    server.transport.abort()
                    return "421 closing"
                if answer == "hang":
                    await asyncio.Event().wait()
                return answer
        return None

    async def handle_MAIL(self, server: SMTP, session: Session, envelope: Envelope, address: str, options: Any) -> str:
        if (answer := await self._answer(server, "MAIL")) is not None:
            return answer
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 OK"

    async def handle_RCPT(self, server: SMTP, session: Session, envelope: Envelope, address: str, options: Any) -> str:
        if (answer := await self._answer(server, address, "RCPT")) is not None:
            return answer
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        answer = await self._answer(server, "DATA")
        if answer is not None and not answer.startswith("taken"):
            return answer
        self.sessions.append(session)
        self.taken.put_nowait(envelope)
        if answer == "taken, close":
            assert isinstance(server.transport, asyncio.WriteTransport)
            server.transport.abort()
        return "250 OK"

    async def take(self) -> Envelope:
        """Returns the next mail that it was given."""
        async with asyncio.timeout(PATIENCE_S):
            return await self.taken.get()


@asynccontextmanager
async def smarthost(**more: Any) -> AsyncIterator[Smarthost]:
    made = Smarthost(**more)
    await made.open()
    try:
        yield made
    finally:
        await made.close()


@dataclass
class World:
    """A server with the gadget."""

    running: RunningServer
    gadget: MailGadget

    @property
    def port(self) -> int:
        assert self.gadget.listener is not None
        return self.gadget.listener.port

    async def add(self, *accounts: str) -> None:
        """Makes accounts that are away."""
        for account in accounts:
            await self.running.daemon.accounts.add(account, "secret")

    def client(self, user: str) -> Client:
        """Returns a client to be opened; its account is made then."""
        return Client(self.running.url(user))

    def smtp(self, **more: Any) -> aiosmtplib.SMTP:
        """Somebody on the Internet who brings mail."""
        settings: dict[str, Any] = {"hostname": "127.0.0.1", "port": self.port, "start_tls": False}
        return aiosmtplib.SMTP(local_hostname="world.example", timeout=PATIENCE_S, **(settings | more))

    async def nothing_waits(self) -> None:
        """Returns when the queue is empty."""
        async with asyncio.timeout(PATIENCE_S):
            while await self.gadget.store.waiting():
                await asyncio.sleep(0)

    async def talk(self, *lines: str) -> list[str]:
        """Says lines, each after the answer to the one before, and returns the last lines of the answers."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        answers = [await read_answer(reader)]
        try:
            for line in lines:
                writer.write(line.encode() + b"\r\n")
                answers.append(await read_answer(reader))
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()
        return answers[1:]


async def read_answer(reader: asyncio.StreamReader) -> str:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            line = (await reader.readline()).decode().rstrip("\r\n")
            if line[3:4] != "-":
                return line


def settings(folder: Path, running: RunningServer, **more: Any) -> MailSettings:
    """The settings of a gadget beside a running server."""
    tree: dict[str, Any] = {
        "domains": [DOMAIN, "other.example"],
        "database": str(folder / "mail.sqlite"),
        "handlers": running.handlers_path,
        "informer": running.informer_path,
        "listen": {"port": 0},
        "retry": {"first": 0.01, "max": 0.05},
    }
    for key, value in more.items():
        before = tree.get(key)
        tree[key] = before | value if isinstance(before, dict) and isinstance(value, dict) else value
    return MailSettings.model_validate(tree)


@asynccontextmanager
async def gadget(configured: MailSettings) -> AsyncIterator[MailGadget]:
    made = MailGadget(configured)
    await made.start()
    try:
        await made.handler.wait_attached(PATIENCE_S)
        yield made
    finally:
        await made.stop()


@asynccontextmanager
async def world(overrides: Mapping[str, Any] | None = None, **more: Any) -> AsyncIterator[World]:
    """A server with a gadget; ``more`` are settings of the gadget."""
    async with server(overrides) as running, gadget(settings(running.folder, running, **more)) as made:
        yield World(running, made)


def a_mail(to: str = "t@a.example", **more: str) -> EmailMessage:
    """A mail from outside."""
    made = EmailMessage()
    fields = {"From": "G <g@world.example>", "To": to, "Subject": "Hello", "Message_ID": "<1@world.example>"} | more
    text = fields.pop("text", "Good day\n")
    for name, value in fields.items():
        made[name.replace("_", "-")] = value
    made.set_content(text)
    return made


async def received(client: Client) -> Any:
    """Returns the data of the next mail that a client receives."""
    message = await client.receive(PATIENCE_S)
    assert message.type == "mail", message
    return message.data


def through(host: Smarthost, **more: Any) -> dict[str, Any]:
    """The settings of a smarthost on this machine."""
    return {"address": "127.0.0.1", "port": host.port, "tls": "none", "timeout": 5} | more
