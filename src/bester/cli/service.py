"""``bester service``: prints systemd units for a server and for ready-made handlers (docs/operating.md).

The files in ``packaging/systemd`` are its output for a server in ``/var/lib/bester``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from bester.cli.output import USAGE, fail
from bester.cli.settings import ConfigOption, load_config

STATE = Path("/var/lib")
TEMPORARY = (Path("/tmp"), Path("/var/tmp"))  # noqa: S108
"""The folders of which a service has its own copy, so that no other process sees its sockets there."""
HOMES = (Path("/home"), Path("/root"), Path("/run/user"))


def service(
    user: Annotated[
        str,
        typer.Option("--user", metavar="USER", help="The service's user, preferably a separate one."),
    ] = "bester",
    gadgets: Annotated[
        bool, typer.Option("--gadgets", help="Print the unit for ready-made handlers instead: bester-gadget@NAME.")
    ] = False,
    nodes: Annotated[
        int, typer.Option("--nodes", metavar="N", min=0, max=64, help="Run the server as N nodes; 0: as one process.")
    ] = 0,
    config: ConfigOption = None,
) -> None:
    """Print the systemd unit of a server. It has the paths of the configuration and of this installation.

    To install it: bester service > /etc/systemd/system/bester.service && systemctl enable --now bester
    """
    loaded = load_config(config)
    assert loaded.path is not None
    written = [loaded.storage.path, loaded.storage.receipts, loaded.control.address, loaded.handlers.address]
    written += [loaded.informer.address, *(Path(one.address) for one in loaded.listeners() if one.kind == "unix")]
    folders = {loaded.base, *(path.parent for path in written)}
    sockets = (loaded.handlers.address, loaded.informer.address)
    place = (Path(sys.executable).parent, loaded.path.absolute(), user, folders)
    try:
        print(gadget_unit(*place, sockets) if gadgets else unit(*place, nodes), end="")
    except ValueError as error:
        fail(str(error), USAGE)


def unit(bin: Path, config: Path, user: str, folders: Iterable[Path], nodes: int = 0) -> str:
    """Returns the server's unit.

    Args:
        bin: the folder of ``besterd`` and ``bester``.
        config: the configuration.
        user: the user that the server runs as.
        folders: the folders that it writes to.
        nodes: how many nodes share its ports; 0: it is one process.

    Raises:
        ValueError: a unit cannot contain one of the paths or names.
    """
    return _UNIT.format(
        besterd=_word(bin / "besterd") + (f" --nodes {nodes}" if nodes else ""),
        all=" --nodes" if nodes else "",
        bester=_word(bin / "bester"),
        config=_word(config),
        base=_word(config.parent),
        user=_word(user),
        writable=_writable(folders),
        home="read-only" if any(_at_home(path) for path in (bin, config, *folders)) else "yes",
        sandbox=_SANDBOX,
    )


def gadget_unit(bin: Path, config: Path, user: str, folders: Iterable[Path], sockets: tuple[Path, Path]) -> str:
    """Returns the template of the units of ready-made handlers; see :func:`unit` for arguments and errors.

    ``sockets`` are the handler socket and the informer's socket.
    """
    handlers, informer = sockets
    return _GADGET.format(
        bester=_word(bin / "bester"),
        base=_word(config.parent),
        user=_word(user),
        handlers=_word(handlers),
        informer=_word(informer),
        home="read-only" if any(_at_home(path) for path in (bin, config, *folders)) else "yes",
        sandbox=_SANDBOX,
    )


def _writable(folders: Iterable[Path]) -> str:
    """Returns the unit's lines that let the server write to the folders, which systemd creates where it can."""
    lines = []
    for folder in sorted(folders):
        if any(folder.is_relative_to(one) for one in TEMPORARY):
            raise ValueError(f"a service cannot have its files in {folder}: other processes would not see its sockets")
        if folder == Path("/run/bester"):
            continue  # RuntimeDirectory
        if folder.parent == STATE:
            lines.append(f"StateDirectory={_word(folder.name)}\nStateDirectoryMode=0700")
        else:
            lines.append(f"ReadWritePaths={_word(folder)}")
    return "\n".join(lines)


def _at_home(path: Path) -> bool:
    return any(path.is_relative_to(home) for home in HOMES)


def _word(value: Path | str) -> str:
    """Returns one word of a unit, with its specifiers and variables taken literally."""
    text = str(value)
    if not text.isprintable() or any(char in text for char in " \"'\\;"):
        raise ValueError(f"a unit cannot contain {text!r}: white space, quotes, backslashes and semicolons are refused")
    return text.replace("%", "%%").replace("$", "$$")


_SANDBOX = """\
NoNewPrivileges=yes
CapabilityBoundingSet=
ProtectSystem=strict
PrivateTmp=yes
PrivateDevices=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectHostname=yes
ProtectProc=invisible
LockPersonality=yes
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RemoveIPC=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM
# Handlers that the server starts are in the same sandbox. Remove this line for handlers in languages that compile at
# run time, such as JavaScript or Java; or let such handlers attach from their own units.
MemoryDenyWriteExecute=yes"""

_UNIT = """\
[Unit]
Description=Bester, a message exchange
Wants=network-online.target
After=network-online.target
# systemd tries again for as long as it takes.
StartLimitIntervalSec=0

[Service]
# The server tells systemd when messages can pass, when it reloads and when it stops. From systemd 253 on,
# Type=notify-reload works too, without ExecReload.
Type=notify
ExecStart={besterd} {config}
ExecReload={bester} reload{all} --config {config}
WorkingDirectory={base}
User={user}
Restart=on-failure
RestartSec=2
# 2: the configuration is wrong, which a restart does not repair.
RestartPreventExitStatus=2
# A server that hangs is killed and started again.
WatchdogSec=30
# After an unclean stop the whole database is checked, which takes about a second for each GB.
TimeoutStartSec=15min
# A stop signals only the server, which lets its handlers finish their messages and ends them itself.
KillMode=mixed
LimitNOFILE=65536

# The server writes here; everything else is read-only.
{writable}
RuntimeDirectory=bester
RuntimeDirectoryMode=0750
UMask=0077

# For ports below 1024, such as 443, replace the empty CapabilityBoundingSet by both of these lines.
#AmbientCapabilities=CAP_NET_BIND_SERVICE
#CapabilityBoundingSet=CAP_NET_BIND_SERVICE
ProtectHome={home}
{sandbox}

[Install]
WantedBy=multi-user.target
"""

_GADGET = """\
# A ready-made handler: systemctl enable --now bester-gadget@NAME runs "bester gadget NAME". Its arguments are in
# BESTER_ARGUMENTS of /etc/bester/NAME.env, such as BESTER_ARGUMENTS=/etc/bester/NAME.toml; its secrets may be there
# too.

[Unit]
Description=Bester gadget %i
After=bester.service network-online.target
Wants=network-online.target
StartLimitIntervalSec=0

[Service]
Type=exec
Environment=BESTER_HANDLERS={handlers}
Environment=BESTER_INFORMER={informer}
EnvironmentFile=-/etc/bester/%i.env
ExecStart={bester} gadget %i $BESTER_ARGUMENTS
User={user}
Restart=on-failure
RestartSec=5
# 2: its settings are wrong, which a restart does not repair.
RestartPreventExitStatus=2
# It starts in its own folder, /var/lib/bester-NAME, and may write to it.
StateDirectory=bester-%i
StateDirectoryMode=0700
WorkingDirectory=%S/bester-%i
UMask=0077

ProtectHome={home}
{sandbox}

[Install]
WantedBy=multi-user.target
"""
