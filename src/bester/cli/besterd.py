"""The daemon's command: ``besterd [CONFIG]``.

It does without the libraries of the other commands, because it must start quickly.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from bester import __version__
from bester.cli.earlysignals import EarlySignals
from bester.compiled import build
from bester.logsink import STDERR, STDOUT

if TYPE_CHECKING:
    from bester.config import Config, ListenerConfig
    from bester.server.web import Web, WebServices

USAGE = """\
Usage: besterd [--nodes N] [CONFIG]

Runs a Bester server with the configuration CONFIG: a JSON file, or a TOML file if its name ends in .toml.
Without CONFIG: server.conf or bester.toml in the current folder.

  --nodes N            run the server as N processes that share its ports and a NATS server: their own,
                       or the one that the configuration names
  besterd --version    print the version, and whether it is compiled
  bester init DIR      create a folder with a configuration to start from
  bester check CONFIG  check a configuration

Signals: SIGTERM and SIGINT finish the messages under way and stop; SIGHUP reads the configuration again.
Exit status: 0 after a stop, 1 if something cannot be opened, 2 if the configuration or the usage is wrong.
"""

log = logging.getLogger("bester.server")

MAX_NODES = 64
"""The most nodes on one machine."""


def main() -> None:
    """Runs a server until it is stopped."""
    if os.getpid() == 1:
        from bester.cli.firstprocess import run_under_reaper

        status = run_under_reaper(lambda: _main(sys.argv[1:]))
    else:
        status = _main(sys.argv[1:])
    STDOUT.flush()
    sys.exit(status)


def _main(arguments: list[str]) -> int:
    if arguments in (["-h"], ["--help"]):
        print(USAGE, end="")
        return 0
    if arguments == ["--version"]:
        print(f"besterd {__version__} ({build()})")
        return 0
    early = EarlySignals()
    nodes = number = 0
    match arguments:
        case ["--nodes", count, *rest] if count.isdecimal() and 0 < int(count) <= MAX_NODES:
            nodes, arguments = int(count), rest
        case ["--node", one, *rest] if one.isdecimal():  # the parent starts its nodes with this option
            number, arguments = int(one), rest
    wrong = _misuse(arguments)
    if wrong:
        print(f"besterd: {wrong}\n\n{USAGE}", end="", file=sys.stderr)
        return 2
    found = [name for name in (arguments or ["server.conf", "bester.toml"]) if arguments or Path(name).is_file()]
    if not found:
        print("besterd: there is no server.conf or bester.toml in this folder.\n", file=sys.stderr)
        print(USAGE, end="", file=sys.stderr)
        return 2

    from bester.config import ConfigError, load
    from bester.errors import BesterError
    from bester.server.telemetry.logs import log_loop_errors, set_up_log

    read: Callable[[Path], Config] = load
    try:
        config = load(Path(found[0]))
        if number:
            read = _node_reader(config, number)
            config = read(Path(found[0]))
        elif not nodes:
            _refuse_private_nats(config)
    except ConfigError as error:
        print(f"besterd: {found[0]} is wrong:\n{error}", file=sys.stderr)
        return 2
    except BesterError as error:
        print(f"besterd: {error.message}", file=sys.stderr)
        return 2
    set_up_log(config.log.level, config.log.format, config.cluster.node or "" if number and config.cluster else "")
    for line in config.warnings if not number else ():
        log.warning("configuration: %s", line)

    from bester.server.telemetry.notify import Notifier

    notifier = Notifier.from_environment()
    if nodes:
        from bester.cli.nodes import run_nodes

        return run_nodes(config, nodes, _say, notifier)

    import uvloop

    from bester.net.descriptors import raise_limit
    from bester.server.server import Server

    raise_limit()

    async def run() -> int:
        server = Server(config, web=_web, notifier=notifier, read=read, shared=number > 0)
        loop = asyncio.get_running_loop()
        log_loop_errors(loop)
        for which in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(which, server.runtime.stop_soon)
        loop.add_signal_handler(signal.SIGHUP, server.reload_soon)
        if early.reload:
            server.reload_soon()
        if number:
            _end_with_parent(loop, server.runtime.stop_soon)
        try:
            if not await server.start_unless_stopped(_say):
                _say("stopped before it was ready")
                return 0
        except BesterError as error:
            STDERR.write(f"besterd: {error.message}")
            return 1
        await server.wait()
        _say("stopping")
        await server.stop()
        _say("stopped")
        return 1 if server.runtime.failed else 0

    return uvloop.run(run())


def _misuse(arguments: list[str]) -> str:
    """Returns what is wrong with the command line; "" if it is right."""
    if arguments[:1] == ["--nodes"]:
        return f"--nodes needs a number from 1 to {MAX_NODES}"
    option = next((argument for argument in arguments if argument.startswith("-")), None)
    if option is not None:
        return f"there is no option {option}; ports, names and limits are keys of the configuration"
    return f"at most one CONFIG is allowed; got {len(arguments)}" if len(arguments) > 1 else ""


def _node_reader(config: Config, number: int) -> Callable[[Path], Config]:
    """Returns a function that reads the configuration of one node on this machine.

    Raises:
        BadConfiguration: there is no NATS for the nodes.
    """
    from bester.config import load
    from bester.config.nodes import for_node, name_of_node, private_cluster, read_access
    from bester.errors import BadConfiguration

    name = name_of_node(config, number)
    access = read_access(config) if config.cluster is None else None
    cluster = config.cluster or (private_cluster(access) if access is not None else None)
    if cluster is None:
        raise BadConfiguration("there is no NATS for this node; start all of them with: besterd --nodes N")
    return lambda path: for_node(load(path), number, name, cluster, MAX_NODES)


def _refuse_private_nats(config: Config) -> None:
    """Refuses to start a single server where only nodes can find the accounts and messages.

    Raises:
        BadConfiguration: the accounts and messages are in the NATS server of ``--nodes``.
    """
    from bester.config.nodes import has_private_nats, nodes_folder
    from bester.errors import BadConfiguration

    if has_private_nats(config):
        raise BadConfiguration(
            f"this server's accounts and messages are in {nodes_folder(config)}, because it was started with --nodes: "
            "start it with --nodes again; or, to begin without them, move that folder away first"
        )


def _end_with_parent(loop: asyncio.AbstractEventLoop, stop: Callable[[], None]) -> None:
    """Stops the server when its parent is gone, which holds the other end of the standard input."""

    def look() -> None:
        if not os.read(0, 1024):
            loop.remove_reader(0)
            stop()

    loop.add_reader(0, look)


def _web(services: WebServices, configured: ListenerConfig) -> Web:
    from bester.web.site import Site  # takes a while, so only servers with this listener import it

    return Site(services, configured)


def _say(line: str) -> None:
    STDOUT.write(f"besterd: {line}")
