"""Writes docs/configuration.md from the models: ``python -m bester.config.document`` prints it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo

from bester.config.model import Config
from bester.config.reload import NEEDS_RESTART
from bester.config.schema import block_of, entries_of, keys, words
from bester.config.values import Block

FOUNDING_JSON = """\
{"network": {"types": ["unix", "tcp4", "tcp6"],
             "unix": {"address": "besterUNIXSock"},
             "tcp4": {"port": "2220", "address": "0.0.0.0"},
             "tcp6": {"port": "2221", "address": "::"}},
 "handlers": {"availableTypes": ["type1", "type2"],
              "typeMap": {"type1": {"handlerBinary": "./type1.py", "unixDomainSocketPath": "aSock"}}},
 "database": {"type": "redis", "redis": {"address": "127.0.0.1", "port": "6379"}},
 "admin": {"info": {}}}
"""

FOUNDING_TOML = """\
[network]
types = ["unix", "tcp4", "tcp6"]
unix = {address = "besterUNIXSock"}
tcp4 = {port = "2220", address = "0.0.0.0"}
tcp6 = {port = "2221", address = "::"}

[handlers]
availableTypes = ["type1", "type2"]

[handlers.typeMap.type1]
handlerBinary = "./type1.py"
unixDomainSocketPath = "aSock"

[database]
type = "redis"
redis = {address = "127.0.0.1", port = "6379"}

[admin]
info = {}
"""

ERRORS_JSON = """\
{"network": {"types": ["tcp4", "tls"], "tcp4": {"port": "99999"}},
 "limits": {"handlerTimeout": "long"}}
"""

ERRORS_REPORTED = """\
network.tcp4.port: found "99999", allowed: a port number from 0 to 65535
limits.handlerTimeout: found "long", allowed: a number of seconds from 0.01 to 86400
network.tls: found nothing, allowed: an object: network.types names this listener
"""

_INTRODUCTION = f"""\
# Configuration

<!-- Generated from the models: python -m bester.config.document > docs/configuration.md -->

A configuration is a JSON file, or, if its name ends with `.toml`, a TOML file with the same keys:

```json
{FOUNDING_JSON}```

```toml
{FOUNDING_TOML}```

Only a listener is needed; everything else has a default. The smallest configuration is
`{{"network": {{"tcp4": {{"port": 2223}}}}}}`.

- Ports are numbers or texts. Durations are seconds and may have fractions; sizes are bytes. `true` and `false` are not
  numbers.
- Relative paths are relative to the configuration file's folder. The path of a Unix socket has at most 107 bytes
  (103 on macOS), counted from the root, and no two sockets share one.
- Of a repeated key in JSON the last value counts; `NaN` and `Infinity` are refused.
- An unknown key is ignored with a warning, which names the most similar known key.

## Errors

All errors of a file are reported at once, one per line: the key, the value found, and the values allowed. From

```json
{ERRORS_JSON}```

comes

```text
{ERRORS_REPORTED}```

Secrets are never shown. A server with a wrong configuration does not start; a reload of a wrong configuration changes
nothing.

## Reload

A reload applies a changed file without a restart, except for

"""

_AFTER_RELOAD = """
A change of one of these waits for the next start, and the reload names it.

"""


def document() -> str:
    """Returns the page, with every key of a configuration."""
    text = _INTRODUCTION
    text += "".join(f"- `{'.'.join(path)}`{_all_of(path)}\n" for path in NEEDS_RESTART)
    text += _AFTER_RELOAD
    for key, field in keys(Config).items():
        inner = block_of(field.annotation)
        if inner is None:
            raise AssertionError(f"{key} is not a block")
        text += f"## {key}\n\n{field.description}\n\n"
        text += "| Key | Type | Default | Meaning |\n|---|---|---|---|\n"
        text += "".join(_rows(inner, key)) + "\n"
    return text.rstrip("\n") + "\n"


def _all_of(path: tuple[str, ...]) -> str:
    return " (all of its keys)" if len(path) == 1 else ""


def _rows(model: type[Block], prefix: str) -> Iterator[str]:
    for key, field in keys(model).items():
        path = f"{prefix}.{key}"
        yield _row(path, field)
        inner, entries = block_of(field.annotation), entries_of(field.annotation)
        if inner is not None:
            yield from _rows(inner, path)
        elif entries is not None:
            yield from _rows(entries, f"{path}.{words(field)['name']}")


def _row(path: str, field: FieldInfo) -> str:
    about = words(field)
    allowed = about["allowed"]
    if "key" in about:
        allowed += f"; names: {about['key']}"
    if "item" in about and about["item"] not in allowed and not entries_of(field.annotation):
        allowed += f"; each: {about['item']}"
    cells = (f"`{path}`", allowed, _default(field), field.description or "")
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


def _default(field: FieldInfo) -> str:
    text = words(field).get("default_text")
    if text is not None:
        return str(text)
    if field.is_required():
        return "required"
    if field.default_factory is not None:
        return "the defaults of its keys"
    if field.default is None:
        return "none"
    return f"`{json.dumps(_plain(field.default))}`"


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return list(value)
    return str(value) if isinstance(value, Path) else value


if __name__ == "__main__":
    print(document(), end="")
