"""The descriptions of types that attached handlers gave (docs/protocol.md, section 6.9).

Of several handlers of a type the newest one's counts. Where the configuration says ``validate``, its schema of requests
judges the messages at the type's gate (:mod:`bester.core.gate`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from msgspec import Raw

from bester.accepting import LogThrottle
from bester.core.routing import AttachedHandler
from bester.errors import BadArguments, BadPayload
from bester.protocol.descriptions import SCHEMAS, Description, place, read_descriptions
from bester.protocol.messages import Data
from bester.schemas.validator import BadSchema, Validator, can_validate
from bester.server.runtime import Runtime

log = logging.getLogger("bester.handler")

MAX_KEPT_BYTES = 16 * 1024 * 1024
"""How much the descriptions of all handlers have, as they came; in memory they take several times as much."""
SLOW_S = 0.25
"""A look at a message that takes longer is told: the server does nothing else meanwhile."""


@dataclass(frozen=True, slots=True)
class Described:
    """A type's description by one handler."""

    handler: AttachedHandler
    description: Description
    validator: Validator | None
    """Judges requests; None without a schema of them, or without the extra ``schema``."""


class Descriptions:
    """All types' descriptions at one node."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._by_type: dict[str, list[Described]] = {}
        """By type, the newest last; no list is empty."""
        self._sizes: dict[AttachedHandler, int] = {}
        """How many bytes the descriptions of each handler had."""
        self._slow = LogThrottle()
        self._used: dict[str, Validator] = {}
        """By type, the validators at the gates."""

    def of(self, type: str) -> list[Described]:
        """Returns what handlers say of a type, the newest last."""
        return self._by_type.get(type, [])

    def version(self, type: str) -> str | None:
        """Returns the version that the newest description gives."""
        found = self._by_type.get(type)
        return found[-1].description.version if found else None

    def validates(self, type: str) -> bool | None:
        """Whether what does not fit is refused; None where the configuration does not ask for it."""
        return type in self._used if self._is_wanted(type) else None

    def read(self, data: Raw, types: list[str]) -> dict[str, tuple[Description, Validator | None]]:
        """Returns what an attach message says of its types.

        Raises:
            BadArguments: it does not have the form of section 6.9, or one of its schemas is none.
        """
        if sum(self._sizes.values()) + len(data) > MAX_KEPT_BYTES:
            log.warning("a handler's descriptions are left out: those of all have more than %d bytes", MAX_KEPT_BYTES)
            return {}
        looks = can_validate()
        found: dict[str, tuple[Description, Validator | None]] = {}
        for type, description in read_descriptions(data, types).items():
            validators: dict[str, Validator] = {}
            for name in SCHEMAS if looks else ():
                schema = getattr(description, name)
                if schema is not None:
                    try:
                        validators[name] = Validator(schema, place("describe", [type, name]))
                    except BadSchema as error:
                        raise BadArguments(str(error)) from error
            found[type] = (description, validators.get("request"))
        return found

    def attached(
        self, handler: AttachedHandler, found: dict[str, tuple[Description, Validator | None]], size: int
    ) -> None:
        """Takes the descriptions of a handler that has attached, which had so many bytes, until :meth:`gone`."""
        if found:
            self._sizes[handler] = size
        for type, (description, validator) in found.items():
            self._by_type.setdefault(type, []).append(Described(handler, description, validator))
            self._switch(type)
        for route in handler.types:
            if self.validates(route.name) is False:
                log.warning(
                    "type %s: nothing is refused, although the configuration says validate: "
                    "its handler %s gives no schema of requests",
                    ascii(route.name),
                    ascii(handler.name),
                )

    def gone(self, handler: AttachedHandler) -> None:
        """Forgets a handler's descriptions, if there are any."""
        self._sizes.pop(handler, None)
        for route in handler.types:
            known = self._by_type.get(route.name)
            if known is None:
                continue
            kept = [one for one in known if one.handler is not handler]
            if kept:
                self._by_type[route.name] = kept
            else:
                del self._by_type[route.name]
            self._switch(route.name)

    def reconfigure(self) -> None:
        """Validates the types that the configuration says, and no others."""
        for type in dict.fromkeys((*self._by_type, *self._used)):
            self._switch(type)

    def _is_wanted(self, type: str) -> bool:
        entry = self._runtime.config.handlers.type_map.get(type)
        return entry is not None and entry.validates

    def _switch(self, type: str) -> None:
        known = self._by_type.get(type)
        validator = known[-1].validator if known and self._is_wanted(type) else None
        if validator is self._used.get(type):
            return
        if validator is None:
            del self._used[type]
        else:
            self._used[type] = validator
        self._runtime.exchange.gates.validate(type, self._timed(type, validator) if validator is not None else None)

    def _timed(self, type: str, validator: Validator) -> Callable[[Data], BadPayload | None]:
        """Returns what also tells when a look takes long, as with a costly schema or a large message."""

        def look(data: Data) -> BadPayload | None:
            began = self._runtime.clock()
            error = validator(data)
            took_s = self._runtime.clock() - began
            if took_s > SLOW_S and (count := self._slow.due()):
                log.warning(
                    "type %s: to validate a message of %d bytes took %.2f s, in which the server did nothing else: "
                    "make its schema simpler, or leave out validate (%d since the last line)",
                    ascii(type),
                    len(data),
                    took_s,
                    count,
                )
            return error

        return look
