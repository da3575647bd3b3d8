"""``bester why``: shows recent failures by their causes, and what to do about them."""

from __future__ import annotations

from bester.cli.output import quiet_pipe, say, say_json
from bester.cli.settings import ConfigOption, JsonOption, load_config, run_control
from bester.cli.trace import SinceOption, begin, moment, say_how_far


def why(since: SinceOption = None, config: ConfigOption = None, json: JsonOption = False) -> None:
    """Show recent failures by cause, and what to do about them. Recent is the last hour, or --since.

    Present problems come first, as in bester status --check.
    """
    found = run_control(load_config(config), "why", since=begin(since) if since is not None else None)
    with quiet_pipe():
        if json:
            for cause in [*found["causes"], *found["problems"]]:
                say_json(cause)
            return
        for problem in found["problems"]:
            say(f"now: {problem['what']}: {problem['name']}: {problem['detail']}")
        if not found["causes"]:
            say(f"nothing has failed since {moment(found['since'])}")
        for cause in found["causes"]:
            last = cause["last"]
            say(f"{cause['count']} x {cause['code']} for type {cause['type']}: {last['message'] or 'no text'}")
            sender = last["from"] or "an unproven server"
            where = f" at node {last['node']}" if "node" in last else ""
            say(f"    last: {moment(last['at'])} from {sender}{where}, bester trace {last['trace']}")
            say(f"    {cause['advice']}")
        say_how_far(found)
        if found["unrecorded"]:
            say(f"{found['unrecorded']} messages since the start were too many to record, and only counted")
