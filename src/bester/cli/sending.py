"""``bester send`` and ``bester ask``: sends one message to a server, and prints the report or the reply."""

from __future__ import annotations

import json as jsons
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from bester.cli.connect import (
    CaOption,
    ClientSettings,
    FingerprintOption,
    TimeoutOption,
    ToOption,
    UserOption,
    client_settings,
    run,
    split_words,
)
from bester.cli.output import BAD, GOOD, USAGE, fail, quiet_pipe, say, say_raw_json, say_text
from bester.cli.passwords import PasswordStdinOption
from bester.cli.routes import draw
from bester.cli.settings import JsonOption
from bester.protocol.values import decode_text, encode_data

if TYPE_CHECKING:
    from msgspec import Raw

    from bester.protocol.received import ReceivedMessage
    from bester.protocol.reports import Report, Step

TextOption = Annotated[bool, typer.Option("--text", help="DATA is plain text, not JSON.")]
WordsArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="[URL] TYPE DATA",
        help="DATA is JSON, which is sent as it is, or plain text with --text; - reads standard input.",
        show_default=False,
    ),
]


def send(
    words: WordsArgument,
    to: ToOption = None,
    user: UserOption = None,
    text: TextOption = False,
    timeout: TimeoutOption = 30.0,
    password_stdin: PasswordStdinOption = False,
    ca: CaOption = None,
    fingerprint: FingerprintOption = None,
    route: Annotated[bool, typer.Option("--route", help="Draw the route that the message took.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Draw the route, but deliver, store and send nothing.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Send a message, and print the server's report.

    The report has the outcome for each recipient. Messages for the account stay in its mailbox. The password comes from
    BESTER_PASSWORD, --password-stdin, the URL, or a prompt.

    Exit status: 0 good, 1 reported bad, 2 wrong usage, 3 no connection, 4 authentication failed.
    """
    url, (type, written) = split_words(words, ("TYPE", "DATA"), to)
    where = client_settings(url, user, password_stdin, ca, fingerprint)
    data = read_data(written, text)
    report = run(lambda: _send(where, type, data, timeout, route, dry_run))
    if json:
        say_raw_json(bytes(encode_data(report_as_json(report))).decode())
    else:
        _show(report)
        if route or dry_run:
            draw("plan" if dry_run else "route", steps_as_json(report.route))
    raise typer.Exit(GOOD if report.good else BAD)


def ask(
    words: WordsArgument,
    to: ToOption = None,
    user: UserOption = None,
    text: TextOption = False,
    timeout: TimeoutOption = 30.0,
    password_stdin: PasswordStdinOption = False,
    ca: CaOption = None,
    fingerprint: FingerprintOption = None,
    stream: Annotated[
        bool, typer.Option("--stream", help="Print each part of the answer as it comes; Ctrl-C cancels the rest.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Send a message, and print a handler's reply to it.

    Other messages for the account stay in its mailbox.

    With --text, a reply that is a string is printed without quotes. With --stream, each part has a line, --timeout is
    for each of them, and a bad report after some of them is an error too.

    Exit status: 0 answered, 1 reported bad or no answer, 2 wrong usage, 3 no connection, 4 authentication failed.
    """
    url, (type, written) = split_words(words, ("TYPE", "DATA"), to)
    where = client_settings(url, user, password_stdin, ca, fingerprint)
    data = read_data(written, text)
    if stream:
        run(lambda: _ask_parts(where, type, data, timeout, text, json))
    else:
        show_message(run(lambda: _ask(where, type, data, timeout)), text, json, with_type=False)


async def _send(where: ClientSettings, type: str, data: Raw, timeout_s: float, route: bool, dry_run: bool) -> Report:
    features = ("route",) if route or dry_run else ()
    async with where.client(mail=False, features=features) as client:
        try:
            return await client.send(type, data, timeout=timeout_s, route=route, dry_run=dry_run)
        except TimeoutError:
            fail(f"no report within {timeout_s:g} s; the message may or may not have been handled", BAD)


async def _ask(where: ClientSettings, type: str, data: Raw, timeout_s: float) -> ReceivedMessage:
    async with where.client(mail=False) as client:
        try:
            return await client.ask(type, data, timeout=timeout_s)
        except TimeoutError:
            fail(f"no answer within {timeout_s:g} s", BAD)


async def _ask_parts(where: ClientSettings, type: str, data: Raw, timeout_s: float, text: bool, json: bool) -> None:
    none = True
    async with where.client(mail=False) as client, client.stream(type, data, timeout=timeout_s) as parts:
        try:
            async for part in parts:
                none = False
                with quiet_pipe():
                    show_message(part, text, json, with_type=False)
        except TimeoutError:
            fail(f"no {'answer' if none else 'further part of the answer'} within {timeout_s:g} s", BAD)
    if none and parts.report is not None:
        from bester.protocol.reports import NoReply

        fail(str(NoReply(parts.report)), BAD)


def read_data(written: str, text: bool) -> Raw:
    """Returns the data to send, as JSON; ends the command if they are not JSON."""
    from msgspec import Raw

    raw = sys.stdin.buffer.read() if written == "-" else written.encode(errors="surrogateescape")
    try:
        string = raw.decode()
        if text:
            return Raw(jsons.dumps(string.removesuffix("\n") if written == "-" else string).encode())
        decode_text(string)
    except RecursionError:
        fail("DATA is nested too deeply", USAGE)
    except ValueError as error:
        fail(f"DATA is not JSON: {error}" + ("" if text else " (for plain text use --text)"), USAGE)
    return Raw(raw)


def report_as_json(report: Report) -> dict[str, object]:
    """Returns a report in the form that ``--json`` prints."""
    found: dict[str, object] = {"status": "good" if report.good else "bad"}
    if report.error is not None:
        found["error"] = report.error.as_json()
    found["results"] = [result.as_json() for result in report.results]
    if report.route:
        found["route"] = steps_as_json(report.route)
    if len(report.raw):
        found["data"] = report.data
    return found


def steps_as_json(steps: list[Step]) -> list[dict[str, object]]:
    """Returns a route in the form that it has in a report."""
    return [
        {"server": step.server, "step": step.step, "name": step.name, "ms": step.ms, "status": step.status}
        | ({"route": steps_as_json(step.route)} if step.route else {})
        for step in steps
    ]


def _show(report: Report) -> None:
    if report.error is not None:
        say(f"bad: {report.error.explained}" + (", temporary" if report.error.temporary else ""))
    else:
        say("good" if report.good else "bad")
    width = max((len(result.to) for result in report.results), default=0)
    for result in report.results:
        why = f": {result.error.explained}" if result.error is not None else ""
        say(f"  {result.to:{width}}  {result.status}{why}")
    if len(report.raw):
        say(f"  data: {bytes(report.raw).decode(errors='replace')}")


def show_message(message: ReceivedMessage, text: bool, json: bool, with_type: bool = True) -> None:
    """Prints a message that was received."""
    raw = bytes(message.raw).decode(errors="replace") or "null"
    if json:
        say_raw_json(f'{{"type":{jsons.dumps(message.type)},"data":{raw}}}')
        return
    head = f"{message.type}: " if with_type else ""
    if text and isinstance(message.data, str):
        (say if with_type else say_text)(head + message.data)
    else:
        say(head + raw.replace("\r", " ").replace("\n", " "))
