"""``bester reload``, ``kick`` and ``drain``: an operator's commands for the running server."""

from __future__ import annotations

from typing import Annotated

import typer

from bester.cli.output import BAD, say, say_json, warn
from bester.cli.settings import ConfigOption, JsonOption, load_config, run_control


def reload(
    nodes: Annotated[
        bool, typer.Option("--nodes", help="Let all nodes of a cluster do so, each with its own file.")
    ] = False,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Let the running server read its configuration again. A wrong configuration changes nothing."""
    result = run_control(load_config(config), "reload", nodes=nodes)
    if json:
        say_json(result)
        return
    for line in result["warnings"]:
        warn(f"warning: {line}")
    refused = [row for row in result.get("nodes", ()) if "error" in row]
    for row in refused:
        warn(f"node {row['node']}: nothing was changed: {row['error']['message']}")
    done = len(result.get("nodes", ())) - len(refused)
    where = f" at {done} node(s)" if nodes and result.get("nodes") else ""
    say(f"the configuration was reloaded{where}" + (", but not everywhere" if refused else ""))
    if result["restartNeeded"]:
        say("these changes take effect at the next start: " + ", ".join(result["restartNeeded"]))
    if refused:
        raise typer.Exit(BAD)


def kick(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The account.", show_default=False)],
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """End an account's sessions on the running server."""
    result = run_control(load_config(config), "kick", username=name)
    if json:
        say_json(result)
    else:
        say(f"{result['sessions']} session(s) of {name} ended")


def drain(config: ConfigOption = None, json: JsonOption = False) -> None:
    """Let the running server finish its messages, and stop."""
    result = run_control(load_config(config), "drain")
    if json:
        say_json(result)
    else:
        say(f"the server is stopping; {result['underWay']} messages are under way")
