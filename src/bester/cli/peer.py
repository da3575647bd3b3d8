"""``bester peer``: manages the other servers that a server knows by their keys."""

from __future__ import annotations

import asyncio
import json as json_module
import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bester.cli.output import BAD, GOOD, NO_CONNECTION, USAGE, fail, say, say_json, warn
from bester.cli.settings import ConfigOption, JsonOption, find_config, load_config, run_control
from bester.protocol.values import decode_text
from bester.timeouts import within

if TYPE_CHECKING:
    from pathlib import Path

    from bester.config import Config
    from bester.config.peers import Peer
    from bester.net.fingerprints import Shown
    from bester.net.identity import Identities

peer = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Add, list, test and remove other servers. The configuration lists them.",
    context_settings={"help_option_names": ["-h", "--help"]},
)

MAX_NAMES = 5
"""The most names of a certificate that are shown."""

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The other server's name.", show_default=False)]
TimeoutOption = Annotated[
    float, typer.Option("--timeout", min=0.001, max=300.0, metavar="SECONDS", help="The longest wait.")
]


@peer.command()
def add(
    name: NameArgument,
    address: Annotated[
        str | None,
        typer.Argument(metavar="[ADDRESS]", help="host:port, [v6]:port, unix:/path. Default: look NAME up in DNS."),
    ] = None,
    config: ConfigOption = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Pin the server's key without asking.")] = False,
    other_name: Annotated[
        bool, typer.Option("--other-name", help="Accept a certificate that is not for NAME.")
    ] = False,
    fingerprint: Annotated[
        str | None,
        typer.Option("--fingerprint", metavar="SHA256", help="Expect this key or certificate; do not ask."),
    ] = None,
    timeout: TimeoutOption = 10.0,
    json: JsonOption = False,
) -> None:
    """Connect to a server, and pin its key in the configuration.

    Compare the fingerprint with the one that the other server's operator gives you over another channel; there, bester
    certificate show prints it. A running server uses the new configuration at once.
    """
    from bester.cli.rewrite import RewriteError, change_server, entry_of, reload_server
    from bester.net.fingerprints import spelled
    from bester.protocol.addresses import UnixAddress

    loaded = load_config(config)
    path = find_config(config)
    known = _name(name)
    if known == loaded.server.name:
        fail(f"{known} is this server's own name", USAGE)
    where = address or known
    parsed = _address(where)
    entry: dict[str, Any] = {"address": where}
    try:
        old = entry_of(path, known) or {}
        if not isinstance(parsed, UnixAddress):
            shown = _shown(parsed, known, timeout)
            _accept(known, shown, old.get("fingerprint"), yes, fingerprint, other_name, json)
            entry["fingerprint"] = spelled(shown.fingerprints.key)
        elif fingerprint is not None:
            fail("a Unix socket has no certificate", USAGE)
        kept = {key: value for key, value in old.items() if key not in ("certificate", "fingerprint", "tls")}
        change_server(path, known, kept | entry)
    except RewriteError as error:
        warn(f"bester: {error}" + ("; write there:" if error.lines else ""))
        for line in error.lines.splitlines():
            say(line)
        raise typer.Exit(BAD) from None
    except OSError as error:
        fail(f"{path}: {error.strerror or error}", BAD)
    if not json:
        say(f"the entry of {known} was written to {path}" + ("; its key is pinned" if "fingerprint" in entry else ""))
    reloaded = reload_server(loaded, quiet=json)
    if json:
        say_json({"name": known, **entry, "reloaded": reloaded})


@peer.command("list")
def list_peers(config: ConfigOption = None, json: JsonOption = False) -> None:
    """List the servers of the configuration.

    For each it prints the address, the policy, the pin, and the certificate that the running server saw last.
    """
    loaded = load_config(config)
    seen = _presented(loaded)
    rows = [_row(loaded, name, one) | {"presented": seen.get(name)} for name, one in loaded.federation.servers.items()]
    if json:
        for row in rows:
            say_json(row)
        return
    _say_own(loaded)
    width = max((len(row["name"]) for row in rows), default=0)
    wide = max((len(row["address"]) for row in rows), default=0)
    for row in rows:
        say(f"{row['name']:{width}}  {row['address']:{wide}}  {row['policy']:8}  {row['proof'] or 'unproven'}")
        if shown := row["presented"]:
            whose = "its certificate" if shown["proven"] or not row["proof"] else "WRONG: the certificate it presents"
            until = time.strftime("%Y-%m-%d", time.gmtime(shown["expires"]))
            say(f"  {whose}: key {shown['key']}, certificate {shown['certificate']}, until {until}")


def _presented(config: Config) -> dict[str, Any]:
    """Returns the certificates that the servers presented last, by name; empty if no server runs."""
    from bester.cli.control import Control, ControlError

    try:
        with Control(config.control.address) as control:
            return {row["name"]: row["presented"] for row in control.run("listServers")}
    except ControlError:
        return {}


def _say_own(config: Config) -> None:
    from bester.errors import BadConfiguration
    from bester.net.fingerprints import shown, spelled
    from bester.net.identity import own_files, read_certificates

    found = own_files(config)
    if found is None:
        return
    try:
        own = shown(read_certificates(found[0])[0])
    except BadConfiguration as error:
        warn(f"warning: {error.message}")
        return
    say(f"{config.server.name} is this server: key {spelled(own.fingerprints.key)}, until {own.expires:%Y-%m-%d}")


@peer.command()
def remove(name: NameArgument, config: ConfigOption = None, json: JsonOption = False) -> None:
    """Remove a server from the configuration. A running server uses the new configuration at once."""
    from bester.cli.rewrite import RewriteError, change_server, reload_server

    loaded = load_config(config)
    path = find_config(config)
    known = _name(name)
    if known not in loaded.federation.servers:
        fail(f"{path} has no server named {known}", BAD)
    try:
        change_server(path, known, None)
    except RewriteError as error:
        fail(f"{error}: remove {known} from federation.servers", BAD)
    except OSError as error:
        fail(f"{path}: {error.strerror or error}", BAD)
    if not json:
        say(f"{known} was removed from {path}")
    reloaded = reload_server(loaded, quiet=json)
    if json:
        say_json({"name": known, "reloaded": reloaded})


@peer.command()
def disconnect(name: NameArgument, config: ConfigOption = None, json: JsonOption = False) -> None:
    """End the running server's links to and from a server. Later messages open new links.

    To keep a server out, change its pin or its policy: a reload ends the links that are no longer allowed.
    """
    result = run_control(load_config(config), "disconnectServer", server=name)
    if json:
        say_json(result)
    else:
        say(f"{result['links']} link(s) ended")


@peer.command("test")
def try_peer(
    name: NameArgument, config: ConfigOption = None, timeout: TimeoutOption = 10.0, json: JsonOption = False
) -> None:
    """Connect to a server step by step, and show which step fails.

    The steps are policy, address, connection, tls, certificate and hello. Exit status: 0 if all succeed, else 1.
    """
    from bester.errors import BadConfiguration
    from bester.net.identity import Identities

    loaded = load_config(config)
    known = _name(name)
    try:
        identities = Identities(loaded)
    except BadConfiguration as error:
        fail(error.message, USAGE)
    steps = asyncio.run(_steps(loaded, identities, known, timeout))
    good = all(one["ok"] for one in steps)
    if json:
        say_json({"name": known, "ok": good, "steps": steps})
    else:
        for one in steps:
            say(f"{one['step']:11}  {'good' if one['ok'] else 'FAILED'}  {one['detail']}".rstrip())
    raise typer.Exit(GOOD if good else BAD)


async def _steps(config: Config, identities: Identities, name: str, timeout_s: float) -> list[dict[str, Any]]:
    """Takes the steps until one fails; returns them, of which the last may have failed."""
    from bester.errors import BesterError, ServerUnreachable, ServerUnverified
    from bester.net.dial_peer import Unreachable, connect_peer, plan
    from bester.net.resolve import resolve
    from bester.protocol.addresses import ServerName

    steps: list[dict[str, Any]] = []

    def step(what: str, detail: str, ok: bool = True) -> list[dict[str, Any]]:
        steps.append({"step": what, "ok": ok, "detail": detail})
        return steps

    address = ServerName(name)
    planned = plan(address, config.federation)
    try:
        planned.check()
    except ServerUnverified as error:
        return step("policy", error.message, False)
    step("policy", planned.policy)
    try:
        async with within(timeout_s):
            configured = {known: one.address for known, one in config.federation.servers.items()}
            targets = await resolve(address, configured)
    except TimeoutError:
        return step("address", f"no address within {timeout_s:g} s", False)
    except ServerUnreachable as error:
        return step("address", error.message, False)
    step("address", ", ".join(map(str, targets)))
    failed, detail = "", ""
    connected = planned.tls and await _answers(targets, timeout_s)
    try:
        made = await connect_peer(address, config, identities, _Hello, timeout_s=timeout_s)
    except Unreachable as error:
        failed, detail = error.step, error.message
    except ServerUnverified as error:
        failed, detail = "certificate", error.message
    except BesterError as error:
        failed, detail = "connection", error.message
    if failed == "connection" and connected:
        failed = "tls"  # a server accepts connections, but not the TLS handshake
    if failed == "address":
        steps.pop()
        return step(failed, detail, False)
    passed = {"connection": "", "tls": "encrypted", "certificate": f"proves the name {planned.name}"}
    for what, about in passed.items():
        if what == failed:
            return step(what, detail, False)
        if what == "connection" or (what == "tls" and planned.tls) or (what == "certificate" and planned.proof):
            step(what, about)
    try:
        async with within(timeout_s):
            ok, detail = await made.protocol.greet(config.server.name)
    except TimeoutError:
        ok, detail = False, f"no answer within {timeout_s:g} s"
    finally:
        made.transport.abort()
    return step("hello", detail, ok)


async def _answers(targets: list[Any], timeout_s: float) -> bool:
    """Returns whether one of the targets accepts TCP connections."""
    from bester import dialling

    try:
        async with within(timeout_s):
            infos = await dialling.addresses([(target.host, target.port) for target in targets])
            (await dialling.connected(infos)).close()
    except OSError:  # TimeoutError is a subclass
        return False
    return True


class _Hello(asyncio.Protocol):
    """Sends a server's first message, and waits for its answer."""

    def __init__(self) -> None:
        from bester.protocol.framing import Framer

        self._framer = Framer(1 << 20)
        self._answer: asyncio.Future[tuple[bool, str]] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport

    async def greet(self, own_name: str) -> tuple[bool, str]:
        """Returns whether the server accepted the message, and its answer in words."""
        from bester.protocol.framing import frame

        hello = {"header": {"scope": "server", "server": own_name}, "payload": {"type": "dummy", "id": "1"}}
        self._transport.write(frame(json_module.dumps(hello).encode()))
        return await self._answer

    def data_received(self, data: bytes) -> None:
        bodies = self._framer.feed(data, 1)
        if bodies:
            self._done(*_understood(bodies[0]))
        elif self._framer.failure is not None:
            self._done(False, "the answer is not that of a Bester server")

    def connection_lost(self, exc: Exception | None) -> None:
        self._done(False, f"the server closed the connection without an answer{f': {exc}' if exc else ''}")

    def _done(self, ok: bool, detail: str) -> None:
        if not self._answer.done():
            self._answer.set_result((ok, detail))


def _understood(body: bytes) -> tuple[bool, str]:
    try:
        message = decode_text(body)
        if message["header"].get("status") in ("good", "0"):
            return True, "it accepts messages from this server"
        error = message["payload"]["error"]
        return False, f"it refuses this server: {error['code']}: {error['message']}"
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return False, "the answer is not that of a Bester server"


def _row(config: Config, name: str, one: Peer) -> dict[str, Any]:
    from bester.net.dial_peer import plan
    from bester.net.fingerprints import spelled
    from bester.protocol.addresses import ServerName

    planned = plan(ServerName(name), config.federation)
    proof = pinned = None
    if one.fingerprint is not None:
        proof = pinned = spelled(one.fingerprint)
    elif one.certificate is not None:
        proof, pinned = str(one.certificate), _key_of(one.certificate)
    elif planned.proof == "authority":
        proof = "authority"
    return {
        "name": name,
        "address": one.address,
        "tls": planned.tls,
        "policy": planned.policy,
        "proof": proof,
        "pinned": pinned,
    }


def _key_of(path: Path) -> str | None:
    """Returns the fingerprint of a certificate's key; None if the file cannot be read."""
    from bester.errors import BadConfiguration
    from bester.net.fingerprints import fingerprints, spelled
    from bester.net.identity import read_certificates

    try:
        return spelled(fingerprints(read_certificates(path)[0]).key)
    except BadConfiguration:
        return None


def _name(text: str) -> str:
    from bester.config.values import is_server_name

    name = text.lower().removesuffix(".")
    if not is_server_name(name):
        fail(f"not a server's name: {text!r}; give a host's name, such as chat.example", USAGE)
    return name


def _address(text: str) -> Any:
    from bester.errors import BadAddress
    from bester.protocol.addresses import parse_address

    try:
        return parse_address(text)
    except BadAddress as error:
        fail(f"not an address: {text!r}: {error.message}", USAGE)


def _shown(address: Any, name: str, timeout_s: float) -> Shown:
    from bester.errors import ServerUnreachable
    from bester.net.dial_peer import shown_by

    try:
        return asyncio.run(shown_by(address, name, timeout_s))
    except ServerUnreachable as error:
        fail(error.message, NO_CONNECTION)


def _accept(
    name: str, shown: Shown, pinned: object, yes: bool, fingerprint: str | None, other_name: bool, quiet: bool
) -> None:
    """Ends the command unless the operator or the given fingerprint confirms the server's identity."""
    from bester.client.url import normal_fingerprint
    from bester.net.fingerprints import spelled

    if fingerprint is not None:
        try:
            wanted = normal_fingerprint(fingerprint)
        except ValueError as error:
            fail(str(error), USAGE)
        if wanted not in shown.fingerprints:
            fail(f"{name} has another key, {spelled(shown.fingerprints.key)}; nothing was changed", BAD)
    if not quiet:
        say(f"{name} presents the certificate {shown.subject}, which expires on {shown.expires:%Y-%m-%d}:")
        say(f"  key          {spelled(shown.fingerprints.key)}")
        say(f"  certificate  {spelled(shown.fingerprints.certificate)}")
        say("The key will be pinned. The server's operator sees its fingerprint with: bester certificate show")
        if isinstance(pinned, str) and normal_fingerprint(pinned) not in shown.fingerprints:
            warn(f"warning: another key is pinned for {name} so far: {pinned}")
    if name not in shown.names and not other_name:
        whose = f"for {', '.join(shown.names[:MAX_NAMES])}" if shown.names else "for no name"
        found = f"the server presents a certificate {whose}, and not for {name}"
        if yes or fingerprint is not None or not sys.stdin.isatty():
            fail(f"{found}; if it is {name} nevertheless, use --other-name; nothing was changed", BAD)
        warn(f"warning: {found}: is this another server?")
    if fingerprint is not None or yes:
        return
    if not sys.stdin.isatty():
        fail("there is no terminal to ask on; use --fingerprint or --yes", USAGE)
    if not typer.confirm("Is this the fingerprint that its operator gave you?", err=True):
        fail("nothing was changed", BAD)
