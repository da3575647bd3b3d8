"""Turns a file into a checked configuration.

All errors are to be reported at once, but contradictions between values show only once all values are valid. So
invalid values are removed, as if the file did not have them, and the remaining values are checked together. Findings
about a place from which a value was removed are not reported.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from bester.config.checks import cross_checks, value_warnings
from bester.config.files import file_findings, file_warnings
from bester.config.model import Config
from bester.config.problems import MISSING, ConfigError, KeyPath, Problem, dotted, shown
from bester.config.prune import known_only, overlaps, removed, value_at
from bester.config.schema import KEY_MARK, describe
from bester.config.source import Format, non_json_values, read_file, read_text


def load(path: Path | str) -> Config:
    """Reads a configuration file: TOML if its name ends with ``.toml``, else JSON (docs/protocol.md, section 10).

    Relative paths in it start at its folder; for a symbolic link to a file that is the link's folder.

    Raises:
        ConfigError: the configuration is wrong; the exception holds every error of the file.
    """
    file = Path(path).absolute()
    return _build(read_text(read_file(file), _format(file)), file.parent, file)


def parse(text: str, base: Path, format: Format = "json") -> Config:
    """Reads a configuration's text; relative paths in it start at ``base``.

    Raises:
        ConfigError: the configuration is wrong; the exception holds every error of the text.
    """
    return _build(read_text(text, format), base.absolute(), None)


def _format(file: Path) -> Format:
    return "toml" if file.suffix.lower() == ".toml" else "json"


def _build(tree: dict[str, Any], base: Path, file: Path | None) -> Config:
    problems: list[Problem] = []
    invalid: set[KeyPath] = set()
    for path, found, allowed in non_json_values(tree):
        problems.append(Problem(dotted(path), found, allowed))
        invalid.add(path)
    pruned, warnings = known_only(tree, Config)
    try:
        config = _validated(removed(pruned, invalid), tree, base, problems, invalid)
    except ConfigError as error:
        raise ConfigError(error.problems, warnings) from error
    problems += [
        finding.problem()
        for finding in (*cross_checks(config), *file_findings(config))
        if not any(overlaps(path, invalid) for path in (finding.path, *finding.also))
    ]
    if problems:
        raise ConfigError(dict.fromkeys(problems), warnings)
    config = config.model_copy(update={"base": base, "path": file})
    warnings += [*value_warnings(config), *file_warnings(config)]
    return config.model_copy(update={"warnings": tuple(warnings)})


def _validated(
    pruned: dict[str, Any], tree: dict[str, Any], base: Path, problems: list[Problem], invalid: set[KeyPath]
) -> Config:
    while True:
        try:
            return Config.model_validate(pruned, context={"base": base})
        except ValidationError as error:
            wrong: set[KeyPath] = set()
            for entry in error.errors(include_url=False, include_context=False, include_input=False):
                path: KeyPath = entry["loc"]
                if not overlaps(path, invalid):
                    problems.append(_problem(tree, path))
                place = path[:-1] if path[-1] == KEY_MARK else path
                # A missing key cannot be removed, so its block is.
                wrong.add(place[:-1] if entry["type"] == "missing" else place)
            if all(value_at(pruned, place) is MISSING for place in wrong):
                raise ConfigError(dict.fromkeys(problems)) from error
            invalid |= wrong
            removed(pruned, wrong)


def _problem(tree: dict[str, Any], path: KeyPath) -> Problem:
    allowed, secret = describe(Config, path)
    if path[-1] == KEY_MARK:
        return Problem(dotted(path[:-1]), f"the name {shown(path[-2])}", allowed)
    return Problem(dotted(path), shown(value_at(tree, path), secret), allowed)
