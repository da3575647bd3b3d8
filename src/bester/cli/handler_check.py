"""``bester handler check``: checks that a handler does what the contract says (docs/check.md)."""

from __future__ import annotations

import asyncio
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bester.cli.output import BAD, GOOD, USAGE, fail, say, say_json
from bester.cli.settings import JsonOption
from bester.protocol.values import decode_text

if TYPE_CHECKING:
    from bester.cli.screen import Screen
    from bester.workbench.check import Check, Result
    from bester.workbench.contract import Form
    from bester.workbench.runner import Target

_STYLES = {"ok": "green", "fail": "bold red", "skip": "yellow"}


def check(
    command: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="COMMAND|SOCKET",
            help="The command that starts the handler, or the socket on which a classic one listens already.",
            show_default=False,
        ),
    ] = None,
    attached: Annotated[
        bool | None,
        typer.Option("--attached/--classic", help="The handler's form. Default: detect it.", show_default=False),
    ] = None,
    stdio: Annotated[
        bool, typer.Option("--stdio", help="The handler speaks over its standard input and output, in lines.")
    ] = False,
    tls: Annotated[
        bool, typer.Option("--tls", help="The handler attaches over TLS: BESTER_HANDLERS is tls://..., with a token.")
    ] = False,
    type: Annotated[str, typer.Option("--type", help="The value of BESTER_TYPE, and the type of requests.")] = "check",
    sample: Annotated[
        str | None,
        typer.Option(
            "--sample",
            metavar="FILE|JSON",
            help="Data that the handler answers with status 0. Default: the first sample of its description.",
            show_default=False,
        ),
    ] = None,
    echo: Annotated[bool, typer.Option("--echo", help="The handler returns its data: compare them.")] = False,
    timeout: Annotated[float, typer.Option("--timeout", help="Seconds for an answer.", min=0.05)] = 5.0,
    reattach: Annotated[
        float, typer.Option("--reattach", help="Seconds to start, and to attach again after a loss.", min=0.05)
    ] = 10.0,
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="ID", help="Run only this check; may be repeated.")
    ] = None,
    skip: Annotated[
        list[str] | None, typer.Option("--skip", metavar="ID", help="Skip this check; may be repeated.")
    ] = None,
    listing: Annotated[bool, typer.Option("--list", help="List the checks, and run none.")] = False,
    junit: Annotated[
        Path | None, typer.Option("--junit", metavar="FILE", help="Also write the results as JUnit XML.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Check that a handler, in any language, keeps the contract.

    This command plays the server. It starts an attached handler with BESTER_HANDLERS and BESTER_TYPE in its
    environment, and a classic handler with BESTER_SOCKET and BESTER_TYPE, as a server would.

    Exit status: 0 if all checks passed, 1 if any failed, 2 if they could not be run.
    """
    from bester.workbench.contract import Failed, Form, Options
    from bester.workbench.report import as_json, as_junit
    from bester.workbench.runner import CHECKS, detect, run

    if stdio and attached is not None:
        fail("--stdio is a form of its own: give it without --attached and --classic", USAGE)
    form = None if attached is None else Form.ATTACHED if attached else Form.CLASSIC
    form = Form.STDIO if stdio else form
    if tls:
        if form not in (None, Form.ATTACHED):
            fail("--tls is for handlers that attach", USAGE)
        form = Form.ATTACHED
    if listing:
        _list([form] if form else list(Form), json)
        return
    target = find_target(command or [])
    if target.socket is not None and form in (Form.ATTACHED, Form.STDIO):
        fail(f"--{form} needs the command that starts the handler, not a socket", USAGE)
    options = Options(
        type=type,
        sample=_sample(sample) if sample is not None else None,
        echo=echo,
        tls=tls,
        timeout_s=timeout,
        reattach_s=reattach,
    )
    known = {check.id for checks in CHECKS.values() for check in checks}
    for id in (*(only or ()), *(skip or ())):
        if id not in known:
            fail(f"there is no check {id!r}; the checks are: {', '.join(sorted(known))}", USAGE)
    try:
        form = form or asyncio.run(detect(target, options))
        chosen = [one for one in CHECKS[form] if (not only or one.id in only) and one.id not in (skip or ())]
        if not chosen:
            fail(f"none of the chosen checks applies to a handler of the {form} form", USAGE)
        show = _Show(form, target, json)
        results = asyncio.run(run(target, form, options, chosen, show.result))
    except Failed as failure:
        fail(str(failure))
    except OSError as error:
        fail(f"cannot start {target.name}: {error.strerror or error}", USAGE)
    if junit is not None:
        try:
            junit.write_bytes(as_junit(target.name, form, results))
        except OSError as error:
            fail(f"{junit}: {error.strerror or error}", USAGE)
    if json:
        say_json(as_json(target.name, form, results))
    else:
        show.summary(results)
    raise typer.Exit(BAD if any(result.outcome == "fail" for result in results) else GOOD)


def find_target(command: list[str]) -> Target:
    """Returns the handler that a command line names; ends the command if it names none."""
    from bester.workbench.classic import is_socket
    from bester.workbench.runner import Target

    if len(command) == 1:
        if is_socket(command[0]):
            return Target(socket=Path(command[0]))
        try:
            command = shlex.split(command[0])
        except ValueError as error:
            fail(f"the command cannot be parsed: {error}", USAGE)
    if not command:
        fail("the handler is missing: give the command that starts it, or its socket", USAGE)
    return Target(tuple(command))


def _sample(given: str) -> bytes:
    try:
        text = Path(given).read_bytes() if Path(given).is_file() else given.encode()
    except OSError as error:
        fail(f"{given}: {error.strerror or error}", USAGE)
    try:
        decode_text(text)
    except (ValueError, RecursionError) as error:
        fail(f"the sample is neither a file nor JSON: {error}", USAGE)
    return text.strip()


def _list(forms: list[Form], json: bool) -> None:
    from bester.workbench.runner import CHECKS

    checks: dict[tuple[str, str], tuple[Check, list[str]]] = {}
    for form in forms:
        for one in CHECKS[form]:
            checks.setdefault((one.id, one.contract), (one, []))[1].append(form.value)
    for one, where in checks.values():
        if json:
            say_json({"id": one.id, "forms": where, "section": one.section, "contract": one.contract})
        else:
            say(f"{one.id:12} {' and '.join(where):21} {one.section:5} {one.contract}")


class _Show:
    """Shows results to people as they arrive."""

    def __init__(self, form: Form, target: Target, json: bool) -> None:
        self._console: Screen | None = None
        if not json:
            from bester.cli.screen import Screen

            self._console = Screen(soft_wrap=True)
            self._print(f"{target.name}: a handler of the {form} form", "bold")

    def result(self, result: Result) -> None:
        """Shows one result."""
        from bester.workbench.report import explained

        if not result.judged:
            return  # the summary shows them
        word = "FAIL" if result.outcome == "fail" else result.outcome.value
        failed = result.outcome == "fail"
        note = f"  {result.detail}" if result.detail and not failed else ""
        self._print(f"  {word:4} ", _STYLES[result.outcome.value], end="")
        self._print(f" {result.check.id:12} {result.seconds:6.2f} s", end="")
        self._print(note, "dim")
        for line in explained(result) if failed else ():
            self._print(f"       {line}", "red" if line == result.detail else "")

    def summary(self, results: list[Result]) -> None:
        """Shows the totals."""
        from bester.workbench.check import Outcome
        from bester.workbench.report import count

        unjudged = [one for one in results if not one.judged]
        if unjudged:
            ids = ", ".join(one.check.id for one in unjudged)
            self._print(f"  skip  {len(unjudged)} more: {unjudged[0].detail}: {ids}", _STYLES["skip"])
        failed, skipped = count(results, Outcome.FAIL), count(results, Outcome.SKIP)
        passed = len(results) - failed - skipped
        told = f"{passed} passed, {failed} failed, {skipped} skipped, {sum(one.seconds for one in results):.1f} s"
        self._print(told, "bold red" if failed else "bold green")

    def _print(self, text: str, style: str = "", end: str = "\n") -> None:
        if self._console is not None:
            from bester.cli.screen import styled

            self._console.print(styled(text, style), end=end)
