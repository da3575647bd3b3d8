"""The daemon's command: ``besterd [CONFIG]``.

Written without the libraries of the other commands, because it must start quickly.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from bester import __version__

if TYPE_CHECKING:
    from bester.config import ListenerConfig
    from bester.server.daemon import Web
    from bester.server.hall import Hall

USAGE = """\
Usage: besterd [CONFIG]

Runs a Bester server with the configuration CONFIG, a JSON file or, by its ending, a TOML file.
Without CONFIG: server.conf or bester.toml in the current folder.

  besterd --version    print the version
  bester init DIR      make a folder with a configuration to start from
  bester check CONFIG  check a configuration

Signals: SIGTERM and SIGINT finish what is under way and stop; SIGHUP reads the configuration again.
Exit status: 0 after a stop, 1 if something cannot be opened, 2 if the configuration or the usage is wrong.
"""

log = logging.getLogger("bester.server")


def main() -> None:
    """Runs a server until it is stopped."""
    sys.exit(_main(sys.argv[1:]))


def _main(arguments: list[str]) -> int:
    if arguments in (["-h"], ["--help"]):
        print(USAGE, end="")
        return 0
    if arguments == ["--version"]:
        print(f"besterd {__version__}")
        return 0
    if len(arguments) > 1 or (arguments and arguments[0].startswith("-")):
        print(USAGE, end="", file=sys.stderr)
        return 2
    found = [name for name in (arguments or ["server.conf", "bester.toml"]) if arguments or Path(name).is_file()]
    if not found:
        print("besterd: there is no server.conf or bester.toml in this folder.\n", file=sys.stderr)
        print(USAGE, end="", file=sys.stderr)
        return 2

    from bester.config import ConfigError, load
    from bester.server.logs import log_loop_errors, set_up_log

    try:
        config = load(Path(found[0]))
    except ConfigError as error:
        print(f"besterd: {found[0]} is wrong:\n{error}", file=sys.stderr)
        return 2
    set_up_log(config.log.level, config.log.format)
    for line in config.warnings:
        log.warning("configuration: %s", line)

    import uvloop

    from bester.errors import BesterError
    from bester.server.daemon import Server
    from bester.server.notify import Notifier

    notifier = Notifier.from_environment()

    async def run() -> int:
        server = Server(config, web=_web, notifier=notifier)
        loop = asyncio.get_running_loop()
        log_loop_errors(loop)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, server.hall.stop_soon)
        loop.add_signal_handler(signal.SIGHUP, lambda: server.hall.spawn(server.try_reload()))
        try:
            await server.start(_say)
        except BesterError as error:
            print(f"besterd: {error.message}", file=sys.stderr)
            return 1
        await server.wait()
        _say("stopping")
        await server.stop()
        _say("stopped")
        return 1 if server.hall.failed else 0

    return uvloop.run(run())


def _web(hall: Hall, configured: ListenerConfig) -> Web:
    from bester.web.site import Site  # takes a while, so only servers with this listener wait for it

    return Site(hall, configured)


def _say(line: str) -> None:
    with contextlib.suppress(OSError):  # nobody has to read it
        print(f"besterd: {line}", flush=True)
