"""The page of all keys is the models' own, and its examples are true."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from bester.config import ConfigError, parse
from bester.config.document import ERRORS_JSON, ERRORS_REPORTED, FOUNDING_JSON, FOUNDING_TOML, document

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"


def test_the_page_is_what_the_models_say() -> None:
    assert PAGE.read_text(encoding="utf-8") == document()


def test_the_command_prints_it() -> None:
    command = [sys.executable, "-m", "bester.config.document"]
    assert subprocess.run(command, capture_output=True, check=True, text=True).stdout == document()


def test_both_examples_say_the_same() -> None:
    assert tomllib.loads(FOUNDING_TOML) == json.loads(FOUNDING_JSON)
    assert parse(FOUNDING_TOML, Path("/base"), "toml") == parse(FOUNDING_JSON, Path("/base"))


def test_the_errors_are_told_as_shown() -> None:
    with pytest.raises(ConfigError) as caught:
        parse(ERRORS_JSON, Path("/base"))
    assert str(caught.value) == ERRORS_REPORTED.rstrip("\n")


@pytest.mark.parametrize("module", ["typer", "rich", "cryptography", "msgspec", "asyncio", "ssl", "difflib"])
def test_importing_is_cheap(module: str) -> None:
    script = f"import sys, bester.config; sys.exit({module!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
