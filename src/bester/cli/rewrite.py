"""Changes the operator's files: atomically, and only the intended part."""

from __future__ import annotations

import json
import os
import re
import tempfile
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bester.cli.output import say, warn
from bester.protocol.values import decode_text

if TYPE_CHECKING:
    from bester.config import Config

Entry = dict[str, Any]


class RewriteError(Exception):
    """An error for a file that a program cannot change; ``lines`` has the text for a person to write there, if any."""

    def __init__(self, text: str, lines: str = "") -> None:
        super().__init__(text)
        self.lines = lines


def replace_file(path: Path, content: bytes) -> None:
    """Replaces a file's content atomically; the mode stays.

    Raises:
        OSError: the file cannot be written; the old content is still there.
    """
    real = path.resolve()
    mode = real.stat().st_mode & 0o7777
    descriptor, temporary = tempfile.mkstemp(prefix=f".{real.name}.", dir=real.parent)
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
            os.fchmod(file.fileno(), mode)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, real)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    folder = os.open(real.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def change_server(path: Path, name: str, entry: Entry | None) -> None:
    """Replaces a server's entry in ``federation.servers`` of a configuration file; None removes the entry.

    In TOML the entry becomes a separate table at the end of the file; everything else stays as it was written. JSON is
    formatted again, in the same order. Keys of the old entry that the new one does not have are lost.

    Raises:
        RewriteError: the form of the file does not allow that, or the new file would be wrong; it was not changed.
        OSError: the file cannot be read or written; it was not changed.
    """
    from bester.config import ConfigError, parse

    text = path.read_text(encoding="utf-8")
    toml = path.suffix.lower() == ".toml"
    changed = _in_toml(text, name, entry) if toml else _in_json(text, name, entry)
    try:
        parse(changed, path.absolute().parent, "toml" if toml else "json")
    except ConfigError as error:
        raise RewriteError(f"{path} would be wrong after the change; it was not changed:\n{error}") from error
    replace_file(path, changed.encode())


def entry_of(path: Path, name: str) -> Entry | None:
    """Returns a server's entry in the file.

    Raises:
        OSError: the file cannot be read.
    """
    text = path.read_text(encoding="utf-8")
    tree = tomllib.loads(text) if path.suffix.lower() == ".toml" else decode_text(text)
    servers = tree.get("federation", {}).get("servers", {})
    return next((found for key, found in servers.items() if key.lower() == name), None)


def _changed(tree: dict[str, Any], name: str, entry: Entry | None) -> dict[str, Any]:
    """Changes a file's tree in place; an existing name keeps its place and its spelling."""
    servers = tree.setdefault("federation", {}).setdefault("servers", {})
    key = next((key for key in servers if key.lower() == name), name)
    if entry is not None:
        servers[key] = entry
    else:
        servers.pop(key, None)
        if not servers:
            del tree["federation"]["servers"]
    return tree


def _in_json(text: str, name: str, entry: Entry | None) -> str:
    return json.dumps(_changed(decode_text(text), name, entry), indent=2, ensure_ascii=False) + "\n"


def _in_toml(text: str, name: str, entry: Entry | None) -> str:
    wanted = _changed(tomllib.loads(text), name, entry)
    lines = toml_lines(name, entry) if entry is not None else ""
    changed = _without_table(text, name)
    if lines:
        changed = changed.rstrip("\n") + "\n\n" + lines
    # The result is used only if it parses to the intended tree, however the file is written.
    try:
        done = _same(tomllib.loads(changed), wanted)
    except tomllib.TOMLDecodeError:
        done = False
    if not done:
        raise RewriteError("the file has a form that only a person can change", lines)
    return changed


def _same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    for tree in (one, other):  # an empty table is equivalent to none
        if not tree.get("federation", {}).get("servers", True):
            del tree["federation"]["servers"]
        if not tree.get("federation", True):
            del tree["federation"]
    return _lower_servers(one) == _lower_servers(other)


def _lower_servers(tree: dict[str, Any]) -> dict[str, Any]:
    federation = tree.get("federation")
    if federation is None or "servers" not in federation:
        return tree
    servers = {name.lower(): entry for name, entry in federation["servers"].items()}
    return tree | {"federation": federation | {"servers": servers}}


def toml_lines(name: str, entry: Entry) -> str:
    """Returns a server's entry as TOML."""
    values = (f"{key} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in entry.items())
    return f"[federation.servers.{json.dumps(name)}]\n" + "".join(values)


def _without_table(text: str, name: str) -> str:
    """Removes a server's table: its header, and the lines with values directly after it."""
    dot, quote = r"[ \t]*\.[ \t]*", r"[\"']?"
    key = dot.join(("federation", "servers", quote + re.escape(name) + quote))
    head = re.compile(rf"[ \t]*\[[ \t]*{key}[ \t]*\][ \t]*(#.*)?$", re.IGNORECASE)
    kept: list[str] = []
    inside = False
    for line in text.splitlines(keepends=True):
        if head.match(line.rstrip("\r\n")):
            inside = True
            while kept and not kept[-1].strip():
                kept.pop()
            if kept:
                kept.append("\n")
        elif inside and re.match(r"[ \t]*[A-Za-z0-9_\"'-]+[ \t]*=", line):
            continue
        else:
            inside = False
            kept.append(line)
    return "".join(kept)


def reload_server(config: Config, quiet: bool = False) -> bool:
    """Lets the running server, if there is one, read its configuration and certificates again.

    Returns:
        Whether a server did; if it refused, a line on standard error says why.
    """
    from bester.cli.control import Control, ControlError, NotRunning

    try:
        with Control(config.control.address) as control:
            control.run("reload")
    except NotRunning:
        if not quiet:
            say("no server is running; the change takes effect at the next start")
        return False
    except ControlError as error:
        warn(f"warning: the running server did not reload its configuration: {error}")
        return False
    if not quiet:
        say("the running server has reloaded its configuration")
    return True
