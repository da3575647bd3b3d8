"""A server without its optional work on each message: routes, receipts, traceparents, and metrics per message.

``python -m bench.bare MODULE ARGUMENTS`` runs a module with such a server, to compare it with the real one. Nothing in
the server can be switched off, because a switch would cost more than what it saves; so pieces of its source are
replaced as it is loaded. Only what a plain message meets is taken out, so this server is good for the load of
``tests/bench/instructions.py`` and for nothing else. A piece that is not found means that the source has changed, and
that this list has to follow.
"""

from __future__ import annotations

import runpy
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType

import bester

PIECES = (
    # What an envelope carries for them.
    ('    type: str = ""\n    """The type that it was sent to."""\n', ""),
    ('    since: float = 0.0\n    """When it was accepted, in seconds of the exchange\'s clock."""\n', ""),
    ("    metrics: TypeMetrics = UNCOUNTED\n", ""),
    ('    trace: str = ""\n    """The W3C traceparent that came', '    """The W3C traceparent that came'),
    ('    trail: Trail | None = None\n    """Its route,', '    """Its route,'),
    ("    step: Step | None = None\n", ""),
    ("Envelope(origin, id, type, now, route.metrics)", "Envelope(origin, id)"),
    ("Envelope(origin, message.id, message.type, batch.now, metrics)", "Envelope(origin, message.id)"),
    (
        'Envelope(handler, frames.encode_text(message.header.id or ""), route.name, batch.now, route.metrics)',
        'Envelope(handler, frames.encode_text(message.header.id or ""))',
    ),
    # The traceparent of a request.
    (
        "        traces = self.traces\n        number = self._last_request = self._last_request + 1\n"
        "        if number >= traces.until:\n            traces.widen(number)\n        id = str(number)\n"
        "        request.since = batch.now\n",
        "        number = self._last_request = self._last_request + 1\n        id = str(number)\n"
        "        request.since = batch.now\n",
    ),
    (
        "        if not envelope.trace:\n            envelope.trace = id\n            frame = frames.traced_request(",
        "        if True:\n            frame = frames.request(",
    ),
    ("                traces.head,\n                traces.tail,\n", ""),
    ('        b"%d" % hops,\n        more,', '        b"%d" % hops if hops else b"0",\n        more,'),
    ("        self._trace_push(envelope, message.header.traceparent)\n", ""),
    # What is counted. How many messages are under way must be known in any case, for the stop.
    (
        "            route.metrics.took(now - request.since)\n            self.commands.carry_out_plain(",
        "            self.commands.carry_out_plain(",
    ),
    ("            delivered += 1\n", ""),
    ("        self.batch.counters.deliveries += delivered\n", ""),
    (
        "            envelope.metrics.good += 1\n            if receipts.good_left:\n"
        "                receipts.good_left -= 1\n                self._keep_receipt(envelope, report)\n",
        "            self.batch.counters.accepted -= 1\n",
    ),
    ("        self.whole = len(bodies)\n        self.taken += position\n", "        self.whole = len(bodies)\n"),
    ("            self.sent += len(data)\n            transport.write(data)\n", "            transport.write(data)\n"),
)
"""Pieces of the server's source, each of which is there once, and their replacements."""

_SOURCE = Path(bester.__file__).parent


def stripped() -> dict[Path, str]:
    """Returns the source files that have pieces, with the replacements.

    Raises:
        ValueError: a piece is not found, or several times.
    """
    texts = {path: path.read_text(encoding="utf-8") for path in sorted(_SOURCE.rglob("*.py"))}
    found: dict[Path, str] = {}
    for piece, without in PIECES:
        places = [path for path, text in texts.items() if piece in text]
        if len(places) != 1 or texts[places[0]].count(piece) != 1:
            raise ValueError(f"bench/bare.py: this is to be in one place of the source, and is in {places}:\n{piece}")
        texts[places[0]] = found[places[0]] = texts[places[0]].replace(piece, without)
    return found


class _Loader(SourceFileLoader):
    def __init__(self, fullname: str, path: str, text: str) -> None:
        super().__init__(fullname, path)
        self._text = text

    def get_code(self, fullname: str) -> CodeType:
        return compile(self._text, self.path, "exec", dont_inherit=True)


class _Finder(MetaPathFinder):
    def __init__(self, texts: dict[Path, str]) -> None:
        self._texts = texts

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(fullname, path, target) if fullname.startswith("bester.") else None
        text = self._texts.get(Path(spec.origin)) if spec is not None and spec.origin is not None else None
        if spec is None or text is None:
            return None
        loader: Loader = _Loader(fullname, str(spec.origin), text)
        return ModuleSpec(fullname, loader, origin=spec.origin)


def install() -> None:
    """Loads the replaced source of all modules that are imported from now on.

    Raises:
        RuntimeError: it is too late.
    """
    texts = stripped()
    files = {getattr(module, "__file__", None): name for name, module in list(sys.modules.items())}
    late = [files[str(path)] for path in texts if str(path) in files]
    if late:
        raise RuntimeError(f"these are loaded already: {', '.join(late)}")
    sys.meta_path.insert(0, _Finder(texts))


if __name__ == "__main__":
    install()
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
