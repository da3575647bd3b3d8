"""AsyncAPI 3.0 documents of a server's types, from the rows of the command ``describe`` (docs/schemas.md)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from bester.protocol.descriptions import SCHEMAS
from bester.schemas.pointers import moved, resolved, target

VERSION = "3.0.0"
_PLURALS = {"request": "requests", "answer": "answers", "parts": "parts"}
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


def document(rows: Sequence[dict[str, Any]], server: str, urls: Iterable[str], contact: str = "") -> dict[str, Any]:
    """Returns the document of all types.

    Args:
        rows: the types, as ``describe`` tells them.
        server: the server's name.
        urls: where clients reach it, such as ``tls://host:2224``.
        contact: of its administrators.
    """
    channels: dict[str, Any] = {}
    operations: dict[str, Any] = {}
    schemas: dict[str, Any] = {}
    messages: dict[str, Any] = {}
    for row in rows:
        key = _free(_UNSAFE.sub("_", row["type"]).strip("_") or "type", channels)
        channels[key] = _channel(key, row, schemas, messages)
        operations[f"{key}.send"] = _operation(key, row)
    info: dict[str, Any] = {
        "title": server,
        "version": "0",
        "description": f"The types of messages that the Bester server {server} serves.",
    }
    if contact:
        info["contact"] = {"name": contact}
    return {
        "asyncapi": VERSION,
        "info": info,
        "defaultContentType": "application/json",
        "servers": {f"listener{number}": _server(url, server) for number, url in enumerate(urls)},
        "channels": channels,
        "operations": operations,
        "components": {"messages": messages, "schemas": schemas},
    }


def _server(url: str, name: str) -> dict[str, Any]:
    kind, _, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    found = {"host": host or "localhost", "protocol": "bester", "description": f"{name}, {kind}"}
    return found | {"pathname": slash + path} if path else found


def _channel(key: str, row: dict[str, Any], schemas: dict[str, Any], messages: dict[str, Any]) -> dict[str, Any]:
    names = ["request", "answer"] + (["parts"] if row["parts"] is not None else [])
    for name in names:
        message: dict[str, Any] = {"name": name, "title": f"{_PLURALS[name]} of {row['type']}"}
        schema = row[name]
        place = f"{key}.{name}"
        if schema is not None:
            schemas[place] = _as_object(moved(schema, f"#/components/schemas/{place}"))
            message["payload"] = {"$ref": f"#/components/schemas/{place}"}
        if name == "request" and row["samples"]:
            message["examples"] = [
                {"name": f"sample{number}", "payload": sample} for number, sample in enumerate(row["samples"], 1)
            ]
        messages[place] = message
    channel: dict[str, Any] = {"address": row["type"]}
    if row["description"]:
        channel["description"] = row["description"]
    channel["messages"] = {name: {"$ref": f"#/components/messages/{key}.{name}"} for name in names}
    if row["version"]:
        channel["x-version"] = row["version"]
    return channel


def _as_object(schema: Any) -> Any:
    """Returns a schema in the form that components take, which has no booleans at its top."""
    if isinstance(schema, bool):
        return {} if schema else {"not": {}}
    return schema


def _operation(key: str, row: dict[str, Any]) -> dict[str, Any]:
    # The application that the document describes is the server: it receives requests, and replies.
    where = f"#/channels/{key}"
    replies = ["answer"] + (["parts"] if row["parts"] is not None else [])
    found: dict[str, Any] = {
        "action": "receive",
        "channel": {"$ref": where},
        "messages": [{"$ref": f"{where}/messages/request"}],
        "reply": {
            "channel": {"$ref": where},
            "messages": [{"$ref": f"{where}/messages/{name}"} for name in replies],
        },
    }
    if row["description"]:
        found["summary"] = row["description"].strip().splitlines()[0][:200]
    return found


def _free(key: str, taken: dict[str, Any]) -> str:
    number, found = 1, key
    while found in taken:
        number += 1
        found = f"{key}-{number}"
    return found


# -- reading ------------------------------------------------------------------------------------------------------


class NoDocument(ValueError):
    """What was read is no AsyncAPI 3 document."""


@dataclass(frozen=True, slots=True)
class TypeSchemas:
    """The schemas of one type; their references are to the whole document."""

    request: Any = None
    answer: Any = None
    parts: Any = None


def read(document: Any) -> dict[str, TypeSchemas]:
    """Returns the schemas of a document's types.

    Raises:
        NoDocument: it is no AsyncAPI 3 document.
    """
    if not isinstance(document, dict) or not str(document.get("asyncapi", "")).startswith("3."):
        raise NoDocument("this is no AsyncAPI 3 document: asyncapi must be 3.0.0")
    channels = document.get("channels", {})
    if not isinstance(channels, dict):
        raise NoDocument("channels must be an object")
    found: dict[str, TypeSchemas] = {}
    for key, channel in channels.items():
        if not isinstance(channel, dict) or not isinstance(channel.get("messages", {}), dict):
            raise NoDocument(f"channels.{key} and its messages must be objects")
        messages = channel.get("messages", {})
        payloads = {name: _payload(document, messages.get(name)) for name in SCHEMAS}
        found[str(channel.get("address", key))] = TypeSchemas(**payloads)
    return found


def _payload(document: dict[str, Any], message: Any) -> Any:
    message = resolved(document, message)
    payload = message.get("payload") if isinstance(message, dict) else None
    if isinstance(payload, dict) and set(payload) == {"$ref"} and target(document, payload["$ref"]) is None:
        raise NoDocument(f"{payload['$ref']} is not in the document")
    return payload
