"""Mail that comes by SMTP, over real sockets."""

from __future__ import annotations

import asyncio
import ssl
from base64 import b64decode
from contextlib import suppress
from pathlib import Path

import aiosmtplib
import pytest
import trustme
from gadgets.tests.mail.world import PATIENCE_S, a_mail, read_answer, received, world
from tests.certificates import issued

FROM = "MAIL FROM:<g@world.example>"


async def test_a_mail_becomes_a_message() -> None:
    async with world() as here, here.client("t") as t:
        mail = a_mail(Cc='"Doe, Jöhn" <j@x.example>', In_Reply_To="<0@a.example>", References="<x@y> <0@a.example>")
        mail.add_alternative("<p>Good day", subtype="html")
        mail.add_attachment(b"\0\1\2", "image", "png", filename="../ä b.png")
        async with here.smtp() as smtp:
            await smtp.send_message(mail, sender="g@world.example", recipients=["T@A.Example"])
        got = await received(t)
        assert got.pop("receivedAt")
        facts = {"address": "127.0.0.1", "helo": "world.example", "mailFrom": "g@world.example"}
        assert got.pop("receivedFrom") == facts
        assert got == {
            "kind": "mail",
            "messageId": "<1@world.example>",
            "from": [{"address": "g@world.example", "name": "G"}],
            "to": [{"address": "t@a.example"}],
            "cc": [{"address": "j@x.example", "name": "Doe, Jöhn"}],
            "subject": "Hello",
            "inReplyTo": ["<0@a.example>"],
            "references": ["<x@y>", "<0@a.example>"],
            "text": "Good day\n",
            "html": "<p>Good day\n",
            "attachments": [{"name": "ä b.png", "type": "image/png", "size": 3, "data": "AAEC"}],
            "deliveredTo": "T@A.Example",
        }
        assert b64decode("AAEC") == b"\0\1\2"


async def test_who_gets_mail() -> None:
    aliases = {"info": ["t", "g"], "postmaster": ["t"], "gone": ["nobody"]}
    async with world(aliases=aliases) as here:
        await here.add("t", "g", "söß", 'q"u')
        for recipient, answer in {
            "<t@a.example>": "250 2.1.5",
            "<T@OTHER.EXAMPLE>": "250 2.1.5",
            "<info@a.example>": "250 2.1.5",
            "<Postmaster>": "250 2.1.5",
            "<söß@a.example>": "250 2.1.5",
            '<"q\\"u"@a.example>': "250 2.1.5",
            "<nobody@a.example>": "550 5.1.1",
            "<gone@a.example>": "550 5.1.1",
            "<a\u202eb@a.example>": "550 5.1.1",
            "<@@a.example>": "553 5.1.3",
        }.items():
            said = await here.talk("EHLO w", FROM, f"RCPT TO:{recipient}")
            assert said[-1].startswith(answer), (recipient, said)


async def test_no_relay() -> None:
    async with world(smarthost={"address": "127.0.0.1", "port": 1, "tls": "none"}) as here:
        await here.add("t")
        for recipient in (
            "<victim@far.example>",
            "<t>",
            "<t@a.example@far.example>",
            "<@a.example:victim@far.example>",
            "<victim%far.example@far.example>",
            "<t@a.example.far.example>",
            '<"victim@far.example">',
            "<t@[127.0.0.1]>",
        ):
            said = await here.talk("EHLO w", FROM, f"RCPT TO:{recipient}")
            assert said[-1][:9] in ("550 5.7.1", "553 5.1.3"), (recipient, said)
        # What would be relayed elsewhere is an account's strange name here, which nobody has.
        for recipient in (
            "<victim%far.example@a.example>",
            '<"victim@far.example"@a.example>',
            "<far!victim@a.example>",
        ):
            said = await here.talk("EHLO w", FROM, f"RCPT TO:{recipient}")
            assert said[-1].startswith("550 5.1.1"), (recipient, said)
        said = await here.talk("EHLO w", "AUTH PLAIN AHQAc2VjcmV0", FROM, "RCPT TO:<victim@far.example>")
        assert said[1].startswith("502 5.5.1")
        assert said[3].startswith("550 5.7.1")
        assert await here.gadget.store.waiting() == 0


async def test_senders_of_our_own_domain_are_not_taken() -> None:
    async with world() as here:
        await here.add("t", "g")
        said = await here.talk("EHLO w", "MAIL FROM:<t@A.example>")
        assert said[-1].startswith("550 5.7.1")
    async with world(listen={"refuseOwnSenders": False}) as here, here.client("t") as t:
        async with here.smtp() as smtp:
            await smtp.send_message(a_mail(From="t@a.example"), sender="t@a.example", recipients=["t@a.example"])
        # What was proven of it is that it came from outside.
        assert "account" not in (await received(t))["receivedFrom"]


async def test_a_mail_for_an_account_that_is_away_is_stored() -> None:
    async with world() as here:
        await here.add("t")
        async with here.smtp() as smtp:
            await smtp.send_message(a_mail(), sender="", recipients=["t@a.example"])
        async with here.client("t") as t:
            got = await received(t)
            assert got["subject"] == "Hello"
            assert "mailFrom" not in got["receivedFrom"]


async def test_sizes() -> None:
    async with world(maxMessage=65536) as here, here.client("t") as t:
        said = await here.talk("EHLO w", FROM + " SIZE=65537")
        assert said[-1].startswith("552")
        async with here.smtp() as smtp:
            big = a_mail(text="line\n" * 20000)
            await smtp.mail("g@world.example")  # without its size
            await smtp.rcpt("t@a.example")
            with pytest.raises(aiosmtplib.SMTPDataError) as refused:
                await smtp.data(big.as_bytes())
            assert refused.value.code == 552
            # It is within the limit as a mail, and beyond it as a message.
            await smtp.mail("g@world.example")
            await smtp.rcpt("t@a.example")
            with pytest.raises(aiosmtplib.SMTPDataError) as refused:
                await smtp.data(b"Subject: x\r\n\r\n" + b'""""""""\r\n' * 5000)
            assert (refused.value.code, refused.value.message[:5]) == (552, "5.3.4")
            await smtp.mail("g@world.example")
            await smtp.rcpt("t@a.example")
            with pytest.raises(aiosmtplib.SMTPDataError) as refused:
                await smtp.data(b"Subject: x\r\n\r\n" + b"x" * 2000)
            assert refused.value.code == 500
            await smtp.send_message(a_mail(text="x" * 900 + "\n"), sender="g@w.example", recipients=["t@a.example"])
        assert (await received(t))["text"] == "x" * 900 + "\n"


async def test_a_line_without_end_is_cut_off() -> None:
    async with world(maxMessage=4096) as here:
        await here.add("t")
        reader, writer = await asyncio.open_connection("127.0.0.1", here.port)
        await read_answer(reader)
        for line in ("EHLO w", FROM, "RCPT TO:<t@a.example>", "DATA"):
            writer.write(line.encode() + b"\r\n")
            last = await read_answer(reader)
        assert last.startswith("354")

        async def say_on() -> None:
            async with asyncio.timeout(PATIENCE_S):
                while True:
                    writer.write(b"x" * 65536)
                    await writer.drain()
                    await asyncio.sleep(0)

        with pytest.raises(ConnectionError):
            await say_on()
        writer.close()


async def test_the_bounds_of_a_connection() -> None:
    bounds = {"maxRecipients": 2, "maxConnections": 3, "maxConnectionsPerAddress": 2, "mailsPerMinute": 2}
    async with world(listen=bounds) as here:
        await here.add("t", "g", "h")
        to = [f"RCPT TO:<{name}@a.example>" for name in "tgh"]
        assert (await here.talk("EHLO w", FROM, *to))[-1].startswith("452 4.5.3")
        assert (await here.talk("EHLO w", FROM, "RSET", FROM))[-1].startswith("450 4.7.1")
        open_ones = [await asyncio.open_connection("127.0.0.1", here.port) for _ in range(2)]
        for reader, _ in open_ones:
            assert (await read_answer(reader)).startswith("220")
        reader, writer = await asyncio.open_connection("127.0.0.1", here.port)
        assert (await read_answer(reader)).startswith("421 4.7.0")
        assert await reader.read() == b""
        for one in (writer, *(writer for _, writer in open_ones)):
            one.close()


async def test_who_looks_for_accounts_is_sent_away() -> None:
    async with world() as here:
        await here.add("t")
        said = await here.talk("EHLO w", FROM, *(f"RCPT TO:<t{number}@a.example>" for number in range(21)))
        assert said[-2].startswith("550 5.1.1")
        assert said[-1].startswith("421 4.7.0")
        assert (await here.talk("EHLO w", "VRFY t"))[-1].startswith("252")
        assert (await here.talk("EHLO w", "EXPN t"))[-1].startswith("502")


async def test_an_idle_connection_ends() -> None:
    async with world(listen={"timeout": 0.05}) as here:
        reader, writer = await asyncio.open_connection("127.0.0.1", here.port)
        async with asyncio.timeout(20):
            assert (await reader.read()).startswith(b"220")
        writer.close()


async def test_starttls(tmp_path: Path) -> None:
    authority = trustme.CA()
    papers = issued(tmp_path, authority, "a.example")
    tls = ssl.create_default_context()
    authority.configure_trust(tls)
    listen = {"certificate": papers.certificate, "key": papers.key, "requireTls": True}
    async with world(listen=listen) as here, here.client("t") as t:
        assert (await here.talk("EHLO w", FROM))[-1].startswith("530")
        smtp = here.smtp(tls_context=tls)
        await smtp.connect()
        await smtp.starttls(server_hostname="a.example")
        await smtp.ehlo()
        assert not smtp.supports_extension("auth")
        await smtp.send_message(a_mail(), sender="g@world.example", recipients=["t@a.example"])
        await smtp.quit()
        assert (await received(t))["receivedFrom"]["tls"] is True


STRANGE = [
    b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + bytes(range(256)),
    b"\r\n\r\n\0\0\0\r\n" * 10,
    b"EHLO " + b"x" * 5000 + b"\r\nEHLO w\r\nMAIL FROM:<" + b"(" * 900 + b"\r\n",
    b"EHLO w\r\nMAIL FROM:<\xff\xfe@w>\r\nRCPT TO:<\xed\xa0\x80@a.example>\r\nRCPT TO:<t\0@a.example>\r\n",
    b"EHLO w\r\nMAIL FROM:<g@w>\r\nRCPT TO:<t@a.example>\r\nDATA\r\nhalf a mail",
    b"EHLO w\r\nSTARTTLS\r\nMAIL FROM:<g@w>\r\n" + bytes(100),
    b"EHLO w\r\nMAIL FROM:<g@w>\r\nRCPT TO:<t@a.example>\r\nDATA\r\nx\n.\nMAIL FROM:<h@w>\r\n\n.\r\nx",
]


async def test_strange_conversations_harm_nobody(tmp_path: Path) -> None:
    papers = issued(tmp_path, trustme.CA(), "a.example")
    # None of them is left behind, or there would soon be too many.
    listen = {"certificate": papers.certificate, "key": papers.key, "maxConnectionsPerAddress": 3}
    async with world(listen=listen) as here, here.client("t") as t:
        for number, said in enumerate(STRANGE):
            reader, writer = await asyncio.open_connection("127.0.0.1", here.port)
            writer.write(said)
            writer.write_eof()
            async with asyncio.timeout(PATIENCE_S):
                with suppress(ConnectionError):
                    assert b"Traceback" not in await reader.read()
            writer.close()
            async with here.smtp() as smtp:
                mail = a_mail(Message_ID=f"<{number}@w>")
                await smtp.send_message(mail, sender="g@world.example", recipients=["t@a.example"])
            assert (await received(t))["messageId"] == f"<{number}@w>"


async def test_a_peer_that_goes_away_is_not_delivered_to_twice() -> None:
    """The peer cuts the connection while its mail is handed over; its repeat meets what was delivered."""
    async with world(listen={"mailsPerMinute": 1_000_000}) as here, here.client("t") as t:  # it tries until it may
        content = a_mail().as_bytes().replace(b"\n", b"\r\n")
        reader, writer = await asyncio.open_connection("127.0.0.1", here.port)
        await read_answer(reader)
        for line in ("EHLO w", FROM, "RCPT TO:<t@a.example>", "DATA"):
            writer.write(line.encode() + b"\r\n")
            await read_answer(reader)
        writer.write(content + b".\r\n")
        await writer.drain()
        writer.transport.abort()
        assert (await received(t))["subject"] == "Hello"
        async with here.smtp() as smtp:
            while True:  # as long as the first is under way it is answered 451
                with suppress(aiosmtplib.SMTPDataError):
                    await smtp.sendmail("g@world.example", ["t@a.example"], content)
                    break
            await smtp.send_message(a_mail(text="next\n"), sender="g@w.example", recipients=["t@a.example"])
        assert (await received(t))["text"] == "next\n"


async def test_a_repeat_is_not_delivered_twice() -> None:
    async with world() as here, here.client("t") as t:
        for trace in ("", "Received: from elsewhere\r\n"):
            async with here.smtp() as smtp:
                content = trace.encode() + a_mail().as_bytes()
                await smtp.sendmail("g@world.example", ["t@a.example"], content)
        # The same id alone keeps no other mail out.
        async with here.smtp() as smtp:
            await smtp.send_message(a_mail(text="other\n"), sender="g@w.example", recipients=["t@a.example"])
        assert [(await received(t))["text"] for _ in range(2)] == ["Good day\n", "other\n"]


async def test_several_recipients_of_whom_one_has_no_room() -> None:
    limits = {"limits": {"mailboxMessages": 1}}
    async with world(limits) as here, here.client("t") as t:
        await here.add("full")
        async with here.smtp() as smtp:
            await smtp.send_message(a_mail(), sender="g@w.example", recipients=["full@a.example"])
            two = a_mail(Message_ID="<2@world.example>", text="two\n")
            for _ in range(2):
                with pytest.raises(aiosmtplib.SMTPDataError) as refused:
                    await smtp.send_message(two, sender="g@w.example", recipients=["t@a.example", "full@a.example"])
                assert refused.value.code == 452
            async with here.client("full") as full:
                assert (await received(full))["text"] == "Good day\n"
                await smtp.send_message(two, sender="g@w.example", recipients=["t@a.example", "full@a.example"])
                assert (await received(full))["text"] == "two\n"
            await smtp.send_message(a_mail(text="last\n"), sender="g@w.example", recipients=["t@a.example"])
        assert [(await received(t))["text"] for _ in range(2)] == ["two\n", "last\n"]


async def test_lmtp_has_an_answer_for_each_recipient() -> None:
    async with world({"limits": {"mailboxMessages": 1}}, listen={"protocol": "lmtp"}, maxMessage=4096) as here:
        await here.add("t", "g")
        assert (await here.talk("EHLO w"))[-1].startswith("500")
        reader, writer = await asyncio.open_connection("127.0.0.1", here.port)
        await read_answer(reader)

        async def say(line: str) -> str:
            writer.write(line.encode() + b"\r\n")
            return await read_answer(reader)

        await say("LHLO w")
        for names, text, wanted in (("t", "1", ["250"]), ("tg", "2", ["452", "250"]), ("tg", "x" * 9000, ["500"] * 2)):
            await say(FROM)
            for name in names:
                await say(f"RCPT TO:<{name}@a.example>")
            await say("DATA")
            first = await say(f"Message-ID: <{text[:3]}@w>\r\n\r\n{text}\r\n.")
            answers = [first, *[await read_answer(reader) for _ in wanted[1:]]]
            assert [answer[:3] for answer in answers] == wanted, answers
        assert (await say("NOOP")).startswith("250")
        writer.close()


async def test_no_server_no_250() -> None:
    async with world(listen={"pushTimeout": 0.05}) as here:
        await here.add("t")
        async with here.smtp() as smtp:
            await smtp.mail("g@w.example")
            await smtp.rcpt("t@a.example")
            await here.gadget.handler.stop()
            with pytest.raises(aiosmtplib.SMTPDataError) as refused:
                await smtp.data(a_mail().as_bytes())
            assert refused.value.code == 451
            await here.running.daemon.stop()
            await smtp.mail("g@w.example")
            with pytest.raises(aiosmtplib.SMTPRecipientRefused) as unknown:
                await smtp.rcpt("t@a.example")
            assert unknown.value.code == 451


async def test_mails_that_are_refused() -> None:
    async with world() as here, here.smtp() as smtp:
        await here.add("t")
        for content, answer in (
            (b"Received: x\r\n" * 101 + b"\r\nx\r\n", "554 5.4.6"),
            (b"To: " + b"a@b.example, \r\n " * 3000 + b"\r\n\r\n", "552 5.3.4"),
            (b"X: y\r\n" * 30000 + b"\r\n\r\n", "552 5.3.4"),
        ):
            await smtp.mail("g@w.example")
            await smtp.rcpt("t@a.example")
            with pytest.raises(aiosmtplib.SMTPDataError) as refused:
                await smtp.data(content)
            assert f"{refused.value.code} {refused.value.message}".startswith(answer)
