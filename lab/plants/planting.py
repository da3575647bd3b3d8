"""The planted faults as data, and copies of the source that have one of them."""

from __future__ import annotations

import shutil
import tomllib
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src"
LIST = Path(__file__).with_name("plants.toml")


class Plant(NamedTuple):
    """A fault, as a change of one file."""

    name: str
    wrong: str
    """What is wrong, in a sentence."""
    breaks: str
    """The promise that it breaks."""
    file: str
    """The file, below ``src/bester``."""
    before: str
    """What the file contains exactly once."""
    after: str
    """What takes its place."""

    @property
    def path(self) -> Path:
        return SOURCE / "bester" / self.file

    def applied(self, text: str) -> str:
        """Returns the file's text with the fault.

        Raises:
            ValueError: the text to be changed is not there exactly once.
        """
        found = text.count(self.before)
        if found != 1:
            raise ValueError(
                f"the fault {self.name} no longer fits: the text to be changed is {found} times in {self.file}, and "
                f"must be there once; change {LIST.name}"
            )
        return text.replace(self.before, self.after)


def load() -> list[Plant]:
    """Returns all faults, in the order of the list."""
    return [Plant(**one) for one in tomllib.loads(LIST.read_text(encoding="utf-8"))["plant"]]


def plant(one: Plant | None, folder: Path) -> Path:
    """Copies the source into a folder, with a fault; None: without. Returns what PYTHONPATH must begin with.

    Raises:
        ValueError: the fault no longer fits the source.
    """
    copy = folder / "src"
    shutil.copytree(SOURCE, copy, ignore=shutil.ignore_patterns("*.so", "static"))
    if one is not None:
        (copy / "bester" / one.file).write_text(one.applied(one.path.read_text(encoding="utf-8")), encoding="utf-8")
    return copy
