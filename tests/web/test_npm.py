"""bester.js as a package for npm: what is in it, and that Node imports it (docs/javascript.md)."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.javascript import NODE, NPM, check_programs, environment, tsc

import bester

FOLDER = Path(bester.__file__).parent / "web/static/js"
LICENSE = Path(__file__).parents[2] / "LICENSE"
PACKAGE: dict[str, Any] = json.loads((FOLDER / "package.json").read_text(encoding="utf-8"))
TIMEOUT_S = 60.0

TYPED = """
import { BesterError, Client, Message, Report, type Json, type Options, type SendOptions, type State } from "bester";

const options: Options = { username: "t", password: "secret", mail: ["chat"], features: ["ack", "route"] };
const client: Client = await Client.connect("wss://j.example/ws", options);
const state: State = client.state;
const sent: SendOptions = { once: true, timeout: 3 };
const data: Json = { text: "hello", to: ["g", null, 1.5] };
const report: Report = (await client.send("chat", data, sent)).orThrow();
const names: string[] = report.route.flatMap((step) => [step.name, ...(step.route ?? []).map(({ server }) => server)]);
const reply: Message<{ seconds: number }> = await client.ask<{ seconds: number }>("slow");
const seconds: number = reply.data.seconds + (await client.ping());
client.onmessage = async ({ type, replyTo, raw, exact }) => [type, replyTo, raw?.length, exact];
client.onstate = (now: State, error?: BesterError) => [now, error?.code, error?.report?.error?.reason];
for await (const message of client) console.log(message.type, message.deliveryId, state, names, seconds);

// @ts-expect-error: a username is required
await Client.connect(undefined, {});
// @ts-expect-error: no such feature
await Client.connect(undefined, { username: "t", features: ["flying"] });
// @ts-expect-error: no such option
await client.send("chat", null, { twice: true });
// @ts-expect-error: only the client changes its state
client.state = "open";
// @ts-expect-error: a report is read only
report.good = false;
// @ts-expect-error: no such state
client.onstate = (now: "asleep") => now;
// @ts-expect-error: the reply has no such member
reply.data.minutes;
"""
"""A program in TypeScript: every type that the package promises, and mistakes that TypeScript must find."""


def test_the_package_is_this_version() -> None:
    assert PACKAGE["version"] == bester.__version__
    assert PACKAGE["license"] == "MIT"
    assert (FOLDER / "LICENSE").read_text(encoding="utf-8") == LICENSE.read_text(encoding="utf-8")
    assert not any(PACKAGE.get(name) for name in ("dependencies", "scripts", "private"))


@pytest.mark.skipif(NODE is None or not NPM, reason="there is no Node, or no npm")
def test_what_npm_packs_is_imported_by_node(tmp_path: Path) -> None:
    alone = environment(
        npm_config_offline="true", npm_config_cache=str(tmp_path / "cache"), npm_config_userconfig=os.devnull
    )
    command = [*NPM, "pack", "--json", "--pack-destination", str(tmp_path), str(FOLDER)]
    packed = subprocess.run(
        command, env=alone, cwd=tmp_path, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    assert packed.returncode == 0, packed.stderr
    told = json.loads(packed.stdout)
    (one,) = told if isinstance(told, list) else told.values()
    names = {file["path"] for file in one["files"]}
    assert names == {"LICENSE", "README.md", "bester.d.ts", "bester.js", "package.json"}

    (tmp_path / "node_modules").mkdir()
    subprocess.run(["tar", "-xf", one["filename"], "-C", "node_modules"], cwd=tmp_path, timeout=TIMEOUT_S, check=True)
    (tmp_path / "node_modules" / "package").rename(tmp_path / "node_modules" / PACKAGE["name"])
    program = (
        'import { BesterError, Client } from "bester";'
        'import about from "bester/package.json" with { type: "json" };'
        'console.log(typeof Client.connect, new BesterError("x", "y") instanceof Error, about.version);'
    )
    (tmp_path / "try.mjs").write_text(program)
    ran = subprocess.run(
        [str(NODE), "--no-warnings", "try.mjs"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert ran.stdout.split() == ["function", "true", bester.__version__], ran.stderr


@pytest.mark.skipif(tsc() is None, reason="TypeScript is not installed; make check installs it")
def test_a_program_in_typescript(tmp_path: Path) -> None:
    done = check_programs({"program.ts": TYPED}, tmp_path)
    assert done.returncode == 0, done.stdout
