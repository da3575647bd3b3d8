"""Mail that accounts send: to a real smarthost, to each other, and back to them where it fails."""

from __future__ import annotations

import asyncio
import ssl
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Any, Literal

import pytest
import trustme
from gadgets.tests.mail.world import (
    PATIENCE_S,
    Smarthost,
    a_mail,
    gadget,
    received,
    settings,
    smarthost,
    through,
    world,
)
from msgspec import Raw
from tests.certificates import issued

from bester import Client, Handler, Refused, SendHandler
from bester.testing import server
from bester_gadgets.mail.settings import Smarthost as Configured
from bester_gadgets.mail.smarthost import Conversation, Route, Unreachable

MAIL = {"to": ["g@world.example"], "subject": "Hello", "text": "Good day\n"}


async def send(client: Client, **data: Any) -> Any:
    """Sends a mail, and returns what the gadget tells of it."""
    asked = await client.ask("mail", MAIL | data, timeout=PATIENCE_S)
    assert asked.data["status"] == "queued", asked.data
    return asked.data


async def refused(client: Client, **data: Any) -> str:
    """Sends a mail that must be refused, and returns why."""
    report = await client.send("mail", MAIL | data, timeout=PATIENCE_S)
    assert report.error is not None
    assert report.error.code == "handlerError"
    code, _, words = report.error.reason.partition(".")
    assert code == "mail"
    assert report.error.temporary == (words in ("throttled", "full", "unavailable")), report
    return report.error.message


def opened(content: bytes | None) -> EmailMessage:
    message = message_from_bytes(content or b"", policy=default)
    assert isinstance(message, EmailMessage)
    return message


async def test_a_message_becomes_a_mail() -> None:
    async with smarthost() as host, world(smarthost=through(host)) as here, here.client("t") as t:
        told = await send(
            t,
            to=["g@world.example", {"address": "h@world.example", "name": "Hö, H"}],
            cc=["i@world.example"],
            bcc=["secret@world.example"],
            subject="Grüße",
            html="<p>Good day",
            attachments=[{"name": "a.png", "type": "image/png", "data": "AAEC"}],
        )
        envelope = await host.take()
        assert envelope.mail_from == "t@a.example"
        assert envelope.rcpt_tos == ["g@world.example", "h@world.example", "i@world.example", "secret@world.example"]
        mail = opened(envelope.original_content)
        assert b"secret" not in (envelope.original_content or b"")
        assert mail["From"] == "t@a.example"
        assert mail["To"] == 'g@world.example, "Hö, H" <h@world.example>'
        assert (mail["Cc"], mail["Bcc"], mail["Subject"]) == ("i@world.example", None, "Grüße")
        assert mail["Message-ID"] == told["messageId"]
        assert mail["Date"].datetime.tzinfo is not None
        plain, html = mail.get_body(("plain",)), mail.get_body(("html",))
        assert plain is not None
        assert html is not None
        assert (plain.get_content(), html.get_content()) == ("Good day\r\n", "<p>Good day\r\n")
        [attachment] = mail.iter_attachments()
        assert (attachment.get_filename(), attachment.get_content()) == ("a.png", b"\0\1\2")
        assert all(len(line) < 200 and line.isascii() for line in (envelope.original_content or b"").splitlines())


INJECTED = ["\r\nBcc: victim@far.example", "\nX: y", "\0", "\u2028"]


async def test_nothing_is_injected() -> None:
    async with smarthost() as host, world(smarthost=through(host)) as here, here.client("t") as t:
        for line in INJECTED:
            for data, where in (
                ({"subject": f"x{line}"}, "subject"),
                ({"to": [f"g@world.example{line}"]}, "to[0]"),
                ({"to": [{"address": "g@w.example", "name": f"x{line}"}]}, "to[0]"),
                ({"inReplyTo": f"<x{line}@y>"}, "inReplyTo"),
                ({"references": [f"<x{line}@y>"], "inReplyTo": "<x@y>"}, "references[0]"),
                ({"attachments": [{"data": "", "name": f"x{line}"}]}, "attachments[0].name"),
                ({"attachments": [{"data": "", "type": f"text/plain{line}"}]}, "attachments[0].type"),
                ({"attachments": [{"data": "", "contentId": f"<x{line}>"}]}, "attachments[0].contentId"),
            ):
                assert (await refused(t, **data)).startswith(where), data
        # What only looks encoded stays what it is.
        await send(t, subject="=?utf-8?q?x=0D=0ABcc:_v@far.example?=")
        assert (await host.take()).rcpt_tos == ["g@world.example"]
        assert host.taken.empty()


async def test_what_is_wrong_is_said() -> None:
    more = {"send": {"maxRecipients": 2}}
    async with smarthost() as host, world(smarthost=through(host), **more) as here, here.client("t") as t:
        for data, words in (
            ({"to": []}, "there is no recipient"),
            ({"to": ["a@b.example", "c@b.example"], "bcc": ["d@b.example"]}, "3 recipients, and 2 are allowed"),
            ({"to": "g@world.example"}, "Expected `array`"),
            ({"to": ["g"]}, "no address"),
            ({"to": ["g@-x"]}, "no address"),
            ({"to": ["g@world.example>,<x@y.example"]}, "no address"),
            ({"tu": []}, "unknown field `tu`"),
            ({"subject": "x" * 999}, "at most 998 characters"),
            ({"inReplyTo": "1"}, "no message id"),
            ({"attachments": [{"data": "?"}]}, "attachments[0].data: it is not base64"),
            ({"attachments": [{"data": "AA==", "size": 2}]}, "the data has 1 bytes"),
            ({"attachments": [{"data": "", "type": "multipart/mixed"}]}, "no media type"),
            ({"to": ["nobody@a.example"]}, "there is no such account"),
        ):
            assert words in await refused(t, **data), data
        half = Raw(b'{"to": ["g@world.example"], "text": "\\ud800"}')
        with pytest.raises(Refused):
            (await t.send("mail", half)).raise_for_status()
        assert await here.gadget.store.waiting() == 0


async def test_accounts_send_as_themselves_only() -> None:
    async with smarthost() as host, world(smarthost=through(host)) as here, here.client("t") as t:
        await here.add("g")
        named = {"address": "t@a.example", "name": "The boss"}
        for claimed in ("g@a.example", "t@world.example", "t@other.example", named):
            assert "is not yours" in await refused(t, **{"from": claimed})
        for own in ("t@a.example", "T@A.example", {"address": "t@a.example"}):
            await send(t, **{"from": own})
            envelope = await host.take()
            assert (envelope.mail_from, opened(envelope.original_content)["From"]) == ("t@a.example", "t@a.example")


async def test_who_may_send() -> None:
    more: dict[str, Any] = {"send": {"allow": ["T"], "mailsPerHour": 2}}
    async with smarthost() as host, world(smarthost=through(host), **more) as here:  # noqa: SIM117
        async with here.client("t") as t, here.client("g") as g:
            assert "may not send mail" in await refused(g)
            for _ in range(2):
                await send(t)
            assert "at most 2 mails in an hour" in await refused(t)
            # Nor do handlers and servers, which are no accounts.
            handler = Handler(here.running.handlers_path)
            handler.on("other")(lambda message: None)
            async with handler:
                report = await handler.push(SendHandler("mail", MAIL))
                assert report.error is not None
                assert report.error.code == "handlerError"
            for _ in range(2):
                await host.take()
            await here.nothing_waits()


async def test_another_server_sends_nothing() -> None:
    from bester import SendServers

    async with smarthost() as host, world(smarthost=through(host)) as here, server() as other:
        handler = Handler(other.handlers_path)
        address = here.running.url("x").rpartition("@")[2]
        handler.on("mail")(lambda message: SendServers([address]))
        async with handler, Client(other.url("t")) as t:
            with pytest.raises(Refused):
                (await t.send("mail", MAIL)).raise_for_status()
        assert await here.gadget.store.waiting() == 0


async def test_a_mail_to_an_account_here_needs_no_smarthost() -> None:
    async with world(aliases={"all": ["t", "g"]}) as here, here.client("t") as t, here.client("g") as g:
        assert "there is no smarthost" in await refused(t)
        told = await send(t, to=["g@other.example", "all@a.example"], html="<p>")
        for client in (g, t):
            got = await received(client)
            assert got["messageId"] == told["messageId"]
            assert got["receivedFrom"] == {"account": "t"}
            assert got["html"] == "<p>\n"
        await here.nothing_waits()


async def test_replies_thread() -> None:
    async with smarthost() as host, world(smarthost=through(host)) as here, here.client("t") as t:  # noqa: SIM117
        async with here.smtp() as smtp:
            first = a_mail(References="<0@world.example>", In_Reply_To="<0@world.example>")
            await smtp.send_message(first, sender="g@world.example", recipients=["t@a.example"])
            got = await received(t)
            told = await send(t, to=got["from"], inReplyTo=got["messageId"])
            reply = opened((await host.take()).original_content)
            assert reply["In-Reply-To"] == "<1@world.example>"
            assert reply["References"].split() == ["<0@world.example>", "<1@world.example>"]
            # The other side answers, and so do we.
            answer = a_mail(
                Message_ID="<2@world.example>",
                In_Reply_To=reply["Message-ID"],
                References=f"{reply['References']} {reply['Message-ID']}",
            )
            await smtp.send_message(answer, sender="g@world.example", recipients=["t@a.example"])
            got = await received(t)
            thread = ["<0@world.example>", "<1@world.example>", told["messageId"]]
            assert (got["inReplyTo"], got["references"]) == ([told["messageId"]], thread)
            await send(t, inReplyTo=got["messageId"])
            again = opened((await host.take()).original_content)
            assert again["References"].split() == [*thread, "<2@world.example>"]
            # To its own mail, to one that nobody remembers, and with the thread that the client says.
            for id, given, wanted in (
                (told["messageId"], [], thread),
                ("<x@y>", [], ["<x@y>"]),
                ("<x@y>", ["<w@y>"], ["<w@y>", "<x@y>"]),
            ):
                await send(t, inReplyTo=id, references=given)
                assert opened((await host.take()).original_content)["References"].split() == wanted


async def test_what_fails_for_now_is_tried_again() -> None:
    async with smarthost() as host, world(smarthost=through(host, timeout=0.3)) as here, here.client("t") as t:
        told: list[str] = []
        for command, answers in (
            ("DATA", ["451 later", "451 4.3.0 later"]),
            ("MAIL", ["450 later", "close"]),
            ("RCPT", ["452 later"]),
            ("DATA", ["close"]),
            ("DATA", ["hang"]),
            ("MAIL", ["530 log in first"]),
        ):
            host.answers[command] = answers
            told.append((await send(t))["messageId"])
            # A machine that is slow makes doubles of the earlier ones.
            while (id := opened((await host.take()).original_content)["Message-ID"]) != told[-1]:
                assert id in told
            assert not answers


async def test_a_lost_answer_makes_a_double_with_the_same_id() -> None:
    async with smarthost(answers={"DATA": ["taken, close"]}) as host, world(smarthost=through(host)) as here:  # noqa: SIM117
        async with here.client("t") as t:
            told = await send(t)
            ids = {opened((await host.take()).original_content)["Message-ID"] for _ in range(2)}
            assert ids == {told["messageId"]}


async def test_a_bounce() -> None:
    answers = {"no@world.example": ["550 5.1.1 no\x1b[2J such user"], "later@world.example": ["450 later"]}
    async with smarthost(answers=answers) as host, world(smarthost=through(host)) as here, here.client("t") as t:
        told = await send(t, to=["g@world.example", "no@world.example", "later@world.example"])
        assert (await host.take()).rcpt_tos == ["g@world.example"]
        assert (await host.take()).rcpt_tos == ["later@world.example"]
        bounce = await received(t)
        assert (bounce["kind"], bounce["inReplyTo"]) == ("bounce", [told["messageId"]])
        text = "5.1.1 no\\x1b[2J such user"
        assert bounce["failed"] == [{"address": "no@world.example", "status": "refused", "code": 550, "text": text}]
        assert f"no@world.example: 550 {text}" in bounce["text"]
        # A mail that is refused as a whole.
        host.answers["DATA"] = ["554 5.7.1 spam"]
        await send(t)
        bounce = await received(t)
        assert [one["code"] for one in bounce["failed"]] == [554]


async def test_it_gives_up() -> None:
    retry = {"giveUp": 0.2}
    async with smarthost() as host:
        gone = through(host)
    async with world(smarthost=gone, retry=retry) as here, here.client("t") as t:
        await send(t)
        bounce = await received(t)
        [failed] = bounce["failed"]
        assert failed["status"] == "gaveUp"
        assert "Error connecting" in failed["text"]
        await here.nothing_waits()


async def test_an_account_that_needs_smtputf8() -> None:
    async with smarthost() as host, world(smarthost=through(host)) as here, here.client("jörg") as jörg:
        await send(jörg)
        envelope = await host.take()
        assert (envelope.mail_from, envelope.smtp_utf8) == ("jörg@a.example", True)
        assert opened(envelope.original_content)["From"] == "jörg@a.example"
        host.smtputf8 = False
        await send(jörg)
        [failed] = (await received(jörg))["failed"]
        assert failed["status"] == "refused"
        assert "SMTPUTF8" in failed["text"]


async def test_tls_and_login(tmp_path: Path) -> None:
    authority = trustme.CA()
    papers = issued(tmp_path, authority, "localhost")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(papers.certificate, papers.key)
    ca = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca))
    (tmp_path / "password").write_text("open sesame\n")
    async with smarthost(tls=tls, login=("bester", "open sesame")) as host:
        good = through(host, address="localhost", tls="starttls", ca=str(ca), username="bester")
        good["passwordFile"] = str(tmp_path / "password")
        async with world(smarthost=good) as here, here.client("t") as t:
            await send(t)
            await host.take()
            assert host.sessions[0].ssl is not None
        # Another name, an unknown authority, no TLS, a wrong password: nothing goes out, and nothing is lost.
        wrong = {"address": "127.0.0.1"}, {"ca": None}, {"tls": "none"}, {"passwordFile": None, "password": "x"}
        for more in wrong:
            before = host.connections
            async with world(smarthost=good | more) as here, here.client("t") as t:
                await send(t)
                async with asyncio.timeout(PATIENCE_S):
                    while host.connections < before + 2:
                        await asyncio.sleep(0.01)
                assert await here.gadget.store.waiting() == 1
                assert host.taken.empty()


async def test_the_queue_survives_a_restart() -> None:
    async with server() as running:
        async with smarthost() as host:
            configured = settings(running.folder, running, smarthost=through(host))
        async with gadget(configured) as first, Client(running.url("t")) as t:
            ids = {(await send(t, subject=str(number)))["messageId"] for number in range(5)}
            assert await first.store.waiting() == 5
        back = Smarthost()
        await back.open(host.port)
        try:
            async with gadget(configured):
                assert {opened((await back.take()).original_content)["Message-ID"] for _ in range(5)} == ids
        finally:
            await back.close()


async def test_the_queue_is_bounded() -> None:
    async with smarthost() as host:
        gone = through(host)
    async with world(smarthost=gone, send={"maxQueued": 1}) as here, here.client("t") as t:
        await send(t)
        assert "the queue of mails is full" in await refused(t)
    async with world(smarthost=gone, send={"maxQueuedBytes": 2000}) as here, here.client("t") as t:
        assert "the queue of mails is full" in await refused(t, text="x\n" * 1000)


async def test_a_dry_run_sends_nothing() -> None:
    async with smarthost() as host, world(smarthost=through(host)) as here:
        async with Client(here.running.url("t"), features=["route"]) as t:
            report = await t.send("mail", MAIL, dry_run=True)
            assert [step.status for step in report.route] == ["notAsked"]
        assert await here.gadget.store.waiting() == 0


def test_a_password_never_goes_over_an_open_line() -> None:
    from pydantic import ValidationError

    with pytest.raises(ValidationError, match="insecure = true allows it"):
        Configured(address="192.0.2.1", tls="none")
    assert Route(Configured(address="localhost", tls="none"), "a.example").context is None
    context = Route(Configured(address="smtp.example"), "a.example").context
    assert context is not None
    assert context.check_hostname


@pytest.mark.parametrize("tls", ["none", "implicit"])
async def test_a_smarthost_that_hangs_up_is_told_with_its_port(tls: Literal["none", "implicit"]) -> None:
    async with await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        route = Route(Configured(address="127.0.0.1", port=port, tls=tls), "a.example")
        with pytest.raises(Unreachable, match=f"^Error connecting to 127.0.0.1 on port {port}:"):
            async with Conversation(route):
                pass
