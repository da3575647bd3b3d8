"""``bester bench``: puts a server under a small load, and measures it."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bester.cli.connect import CaOption, ClientSettings, FingerprintOption, ToOption, UserOption, client_settings, run
from bester.cli.output import BAD, GOOD, USAGE, fail, say_json
from bester.cli.passwords import PasswordStdinOption
from bester.cli.settings import ConfigOption, JsonOption, load_config, open_control

if TYPE_CHECKING:
    from bester.cli.load import Load, Outcome, Plan

INTERRUPTED = 130


def bench(
    config: ConfigOption = None,
    to: ToOption = None,
    user: UserOption = None,
    type: Annotated[str, typer.Option("--type", help="With --to: a type whose handler answers quickly.")] = "echo",
    clients: Annotated[int, typer.Option("--clients", min=1, max=1000, help="The number of connections.")] = 4,
    outstanding: Annotated[
        int, typer.Option("--outstanding", "-w", min=1, max=1024, help="Messages under way on each connection.")
    ] = 32,
    seconds: Annotated[float, typer.Option("--seconds", "-s", min=0.1, max=600.0, help="The duration.")] = 3.0,
    count: Annotated[
        int | None, typer.Option("--count", "-n", min=1, max=10_000_000, help="End after this many messages.")
    ] = None,
    size: Annotated[int, typer.Option("--size", min=2, max=1_000_000, help="The bytes of data per message.")] = 64,
    password_stdin: PasswordStdinOption = False,
    ca: CaOption = None,
    fingerprint: FingerprintOption = None,
    json: JsonOption = False,
) -> None:
    """Put a server under a small load. Messages go to an echo handler and back, each with its report.

    With --config it measures the server that runs with that configuration, with a temporary account and handler; with
    --to, any server; with neither, a temporary server. All clients are in one process, which is often slower than the
    server.
    """
    from bester.cli.load import Plan

    if config is not None and to is not None:
        fail("give --config or --to, not both", USAGE)

    def plan(its_type: str) -> Plan:
        return Plan(its_type, clients, outstanding, seconds, count, size)

    try:
        if to is not None:
            _measure(client_settings(to, user, password_stdin, ca, fingerprint), plan(type), None, json)
        else:
            _measure_ours(config, plan, json)
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None


def _measure_ours(config: Path | None, plan: Callable[[str], Plan], json: bool) -> None:
    from bester.cli.benchserver import prepared, temporary_server

    with contextlib.ExitStack() as stack:
        loaded = load_config(config or stack.enter_context(temporary_server()))
        control = stack.enter_context(open_control(loaded))
        ready = stack.enter_context(prepared(loaded, control))
        _measure(ClientSettings(ready.url, ready.user, ready.password, None, None), plan(ready.type), ready.pid, json)


def _measure(where: ClientSettings, plan: Plan, pid: int | None, json: bool) -> None:
    """Runs the load and prints the figures; fails the command if a message was reported bad."""
    from bester.cli.load import Load, cpu_seconds

    load = Load(plan, lambda received: where.client(on_message=received, mail=False))
    used: dict[str, float | None] = {}

    def started() -> None:
        used["server"] = cpu_seconds(pid) if pid is not None else None
        used["clients"] = cpu_seconds(os.getpid())

    outcome = run(lambda: _with_progress(load, started, json))
    total = len(outcome.latencies) + outcome.bad

    def per_message(which: str, its_pid: int | None) -> float | None:
        before, after = used.get(which), cpu_seconds(its_pid) if its_pid is not None else None
        return round(1e6 * (after - before) / total, 1) if before is not None and after is not None and total else None

    figures: dict[str, object] = {
        "messages": total,
        "bad": outcome.bad,
        "seconds": round(outcome.seconds, 3),
        "roundTripsPerSecond": round(len(outcome.latencies) / outcome.seconds) if outcome.seconds else 0,
        "p50Ms": round(outcome.percentile_ms(0.5), 3),
        "p99Ms": round(outcome.percentile_ms(0.99), 3),
        "serverCpuMicroseconds": per_message("server", pid),
        "clientsCpuMicroseconds": per_message("clients", os.getpid()),
        "clients": plan.clients,
        "outstanding": plan.outstanding,
        "size": plan.size,
    }
    if json:
        say_json(figures)
    else:
        _show(figures)
    if outcome.bad or not total:
        fail(f"{outcome.bad} messages were reported bad, the last one: {outcome.last_error or 'none was sent'}", BAD)
    raise typer.Exit(GOOD)


async def _with_progress(load: Load, started: Callable[[], None], quiet: bool) -> Outcome:
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from bester.cli.screen import Screen

    plan = load.plan
    columns = TextColumn("{task.fields[messages]} messages"), BarColumn(), TimeRemainingColumn()
    console = Screen(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal) as progress:
        bar = progress.add_task("", total=1.0, messages=0)
        running = asyncio.ensure_future(load.run(started))
        began = asyncio.get_running_loop().time()
        try:
            while not (await asyncio.wait((running,), timeout=0.1))[0]:
                done = len(load.outcome.latencies) + load.outcome.bad
                share = (asyncio.get_running_loop().time() - began) / plan.seconds
                share = max(share, done / plan.count) if plan.count else share
                progress.update(bar, completed=min(share, 1.0), messages=done)
        finally:
            running.cancel()
        return await running


LABELS = {
    "messages": "messages",
    "roundTripsPerSecond": "round trips/s",
    "p50Ms": "p50, ms",
    "p99Ms": "p99, ms",
    "serverCpuMicroseconds": "server CPU, µs/message",
    "clientsCpuMicroseconds": "clients' CPU, µs/message",
}


def _show(figures: dict[str, object]) -> None:
    from bester.cli.screen import Screen, new_table

    title = f"{figures['clients']} clients, {figures['outstanding']} under way on each, {figures['size']} bytes"
    table = new_table()
    for name, label in LABELS.items():
        if figures[name] is not None:
            table.add_row(label, str(figures[name]))
    console = Screen()
    console.print(f"{title}, {figures['seconds']} s", soft_wrap=True)
    console.print(table)
