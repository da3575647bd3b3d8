"""From a file to a checked configuration.

Everything that is wrong is to be told at once, and yet what goes wrong between values can only be seen once they are
all there. So what is wrong by itself is taken out, as if the file did not have it, the rest is checked together, and
whatever is then found about a place that something was taken from is left unsaid.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from bester.config.checks import cross_checks, oddities
from bester.config.files import file_findings, file_oddities
from bester.config.model import Config
from bester.config.problems import MISSING, ConfigError, KeyPath, Problem, dotted, shown
from bester.config.prune import at, known_only, removed, touches
from bester.config.schema import KEY_MARK, describe
from bester.config.source import Format, read_file, read_text, unsound


def load(path: Path | str) -> Config:
    """Reads a configuration file: TOML where its name ends with ``.toml``, else JSON (docs/protocol.md, section 10).

    Relative paths in it are relative to its folder; a link to a file counts as standing where the link stands.

    Raises:
        ConfigError: with every error of the file.
    """
    file = Path(path).absolute()
    return _build(read_text(read_file(file), _format(file)), file.parent, file)


def parse(text: str, base: Path, format: Format = "json") -> Config:
    """Reads a configuration's text; relative paths in it are relative to ``base``.

    Raises:
        ConfigError: with every error of the text.
    """
    return _build(read_text(text, format), base.absolute(), None)


def _format(file: Path) -> Format:
    return "toml" if file.suffix.lower() == ".toml" else "json"


def _build(tree: dict[str, Any], base: Path, file: Path | None) -> Config:
    problems: list[Problem] = []
    taken: set[KeyPath] = set()
    for path, found, allowed in unsound(tree):
        problems.append(Problem(dotted(path), found, allowed))
        taken.add(path)
    kept, warnings = known_only(tree, Config)
    try:
        config = _validated(removed(kept, taken), tree, base, problems, taken)
    except ConfigError as error:
        raise ConfigError(error.problems, warnings) from error
    problems += [
        finding.problem()
        for finding in (*cross_checks(config), *file_findings(config))
        if not any(touches(path, taken) for path in (finding.path, *finding.also))
    ]
    if problems:
        raise ConfigError(dict.fromkeys(problems), warnings)
    config = config.model_copy(update={"base": base, "path": file})
    warnings += [*oddities(config), *file_oddities(config)]
    return config.model_copy(update={"warnings": tuple(warnings)})


def _validated(
    kept: dict[str, Any], tree: dict[str, Any], base: Path, problems: list[Problem], taken: set[KeyPath]
) -> Config:
    while True:
        try:
            return Config.model_validate(kept, context={"base": base})
        except ValidationError as error:
            wrong: set[KeyPath] = set()
            for entry in error.errors(include_url=False, include_context=False, include_input=False):
                path: KeyPath = entry["loc"]
                if not touches(path, taken):
                    problems.append(_problem(tree, path))
                place = path[:-1] if path[-1] == KEY_MARK else path
                # Where a key is missing there is nothing to take out but its block.
                wrong.add(place[:-1] if entry["type"] == "missing" else place)
            if all(at(kept, place) is MISSING for place in wrong):
                raise ConfigError(dict.fromkeys(problems)) from error
            taken |= wrong
            removed(kept, wrong)


def _problem(tree: dict[str, Any], path: KeyPath) -> Problem:
    allowed, secret = describe(Config, path)
    if path[-1] == KEY_MARK:
        return Problem(dotted(path[:-1]), f"the name {shown(path[-2])}", allowed)
    return Problem(dotted(path), shown(at(tree, path), secret), allowed)
