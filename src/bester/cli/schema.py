"""``bester schema``: writes an AsyncAPI document of a server's types, and says what a change of it breaks."""

from __future__ import annotations

import json as jsons
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer

from bester.cli.output import BAD, USAGE, fail, quiet_pipe, say, say_json, say_text, warn
from bester.cli.settings import ConfigOption, load_config, open_control, warn_of_missing
from bester.installation import how_to_add

schema = typer.Typer(
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

MAX_FILE = 64 * 1024 * 1024
_PAGE = 20


@schema.callback(invoke_without_command=True)
def write(
    context: typer.Context,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="The file. Default: standard output.", show_default=False),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Write JSON, not YAML; also for a FILE that ends so.")] = False,
    config: ConfigOption = None,
) -> None:
    """Write or compare AsyncAPI documents of the types.

    The document has all types of the running server; each is a channel, with the schemas and samples that its handlers
    give. It is YAML, or JSON with --json.
    """
    if context.invoked_subcommand is not None:
        return
    as_json = json or (output is not None and output.suffix == ".json")
    if not as_json and find_spec("yaml") is None:
        fail(_no_yaml(), USAGE)
    text = _text(_fetch(config), as_json)
    if output is None:
        with quiet_pipe():
            say_text(text.removesuffix("\n"))
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        fail(f"{output} cannot be written: {error.strerror or error}")


def _fetch(config: Path | None) -> dict[str, Any]:
    from bester.cli.control import CommandRefused, ControlError
    from bester.schemas.asyncapi import document

    loaded = load_config(config)
    rows: list[dict[str, Any]] = []
    with open_control(loaded) as control:
        try:
            info = control.run("serverInfo")
            while page := control.run("describe", after=rows[-1]["type"] if rows else "", limit=_PAGE):
                rows += page
                warn_of_missing(control.missing)
        except (CommandRefused, ControlError) as error:
            fail(str(error))
    urls = [one["address"] for one in info["listeners"].values()]
    contact = info["adminInfo"].get("contact") if isinstance(info["adminInfo"], dict) else None
    return document(rows, loaded.server.name, urls, contact if isinstance(contact, str) else "")


def _text(document: dict[str, Any], as_json: bool) -> str:
    if as_json:
        return jsons.dumps(document, ensure_ascii=False, indent=2) + "\n"
    yaml = import_module("yaml")
    dumper = type("Plain", (yaml.SafeDumper,), {"ignore_aliases": lambda self, data: True})
    return str(yaml.dump(document, Dumper=dumper, sort_keys=False, allow_unicode=True, width=100))


@schema.command()
def check(
    old: Annotated[Path, typer.Argument(metavar="OLD", help="The document that clients were written for.")],
    new: Annotated[
        Path | None, typer.Argument(metavar="[NEW]", help="The new one. Default: the running server's types.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON objects, one per line.")] = False,
    config: ConfigOption = None,
) -> None:
    """Say what would break the clients of an earlier version.

    Such is a type, a member or a value that is gone, or is needed now.

    Exit status: 0 nothing breaks, 1 something does, 2 a document cannot be read.
    """
    from bester.schemas.asyncapi import NoDocument, read
    from bester.schemas.breaks import breaks

    documents = [_read(old), _read(new) if new is not None else _fetch(config)]
    try:
        before, after = map(read, documents)
    except NoDocument as error:
        fail(str(error), USAGE)
    found = breaks(before, after, *documents)
    for one in found:
        if json:
            say_json({"type": one.type, "place": one.place, "why": one.why})
        else:
            say(f"{one.type}: {one.place + ': ' if one.place else ''}{one.why}")
    if found:
        raise typer.Exit(BAD)
    if not json:
        say(f"nothing breaks: {len(before)} types were compared")


def _read(path: Path) -> Any:
    from bester.protocol.values import decode_text

    try:
        if path.stat().st_size > MAX_FILE:
            fail(f"{path} has more than {MAX_FILE} bytes", USAGE)
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        fail(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}", USAGE)
    try:
        return decode_text(text)
    except (ValueError, RecursionError) as error:
        if path.suffix == ".json" or find_spec("yaml") is None:
            warn("" if path.suffix == ".json" else _no_yaml())
            fail(f"{path} is not JSON: {error}", USAGE)
    yaml = import_module("yaml")
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        fail(f"{path} is not YAML: {error}", USAGE)


def _no_yaml() -> str:
    return f"YAML needs PyYAML, which is not installed: {how_to_add('schema')}; or use --json"
