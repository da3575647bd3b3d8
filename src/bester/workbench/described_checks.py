"""The checks of what a handler says of its types (docs/protocol.md, section 6.9)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bester.installation import how_to_add
from bester.protocol.values import decode_text, encode_data
from bester.schemas.validator import can_validate
from bester.workbench.attached import AttachedBench
from bester.workbench.bench import Bench
from bester.workbench.check import check
from bester.workbench.contract import Failed, Skipped
from bester.workbench.transcript import shown

_WRONG: tuple[Any, ...] = (None, True, -1.5, "x", [], {})
_MOST_ASKED = 24


async def _here(bench: Bench) -> AttachedBench:
    """Returns a bench whose handler describes something."""
    assert isinstance(bench, AttachedBench)
    await bench.features()
    if bench.described.nothing and not bench.described.fault:
        raise Skipped("its attach message describes nothing")
    return bench


@check("describe", "6.9", "A description has the form and the bounds of section 6.9, and its schemas are JSON Schemas.")
async def describe(bench: Bench) -> None:
    here = await _here(bench)
    here.described.check()
    if not can_validate():
        bench.note = f"its schemas were not looked at: that needs jsonschema-rs, as added by: {how_to_add('schema')}"


@check("samples", "6.9", "Samples fit the schema request; the first is answered with status 0, and the replies fit.")
async def samples(bench: Bench) -> None:
    here = await _here(bench)
    described = here.described
    if not described.samples:
        raise Skipped(f"it gives no samples of {here.type}")
    for at, sample in enumerate(described.samples):
        refusal = described.refusal("request", sample)
        if refusal:
            raise Failed(f"samples[{at}] does not fit the schema request: {refusal}: {shown(sample)}")
    answer = await here.ask(described.samples[0])
    if not answer.good:
        raise Failed(f"its own sample {shown(described.samples[0])} was answered with {answer.refusal}")
    # Where the sender takes no parts, they come as replies of the only answer.
    described.check_replies(answer.replies(), ("answer", "parts"))


@check("unfitting", "6.9", "Data that do not fit the schema request are answered, and the handler serves on.")
async def unfitting(bench: Bench) -> None:
    here = await _here(bench)
    described = here.described
    if not described.knows("request"):
        has = described.description is not None and described.description.request is not None
        needed = f"this needs jsonschema-rs, as added by: {how_to_add('schema')}"
        raise Skipped(needed if has else f"it gives no schema of requests of {here.type}")
    wrong = [data for data in _candidates(described.samples) if described.refusal("request", data)]
    if not wrong:
        raise Skipped("its schema of requests accepts all that was tried")
    answers = [(data, await here.ask(data)) for data in wrong[:_MOST_ASKED]]
    await here.serves_on()
    taken = [data for data, answer in answers if answer.good]
    if taken:
        bench.note = (
            f"it accepted {shown(taken[0])}, which does not fit; a server refuses that for it with "
            f'"validate": true in handlers.typeMap.{here.type}'
        )


def _candidates(samples: list[bytes]) -> Iterator[bytes]:
    """Yields values of all kinds, and the first sample with each of its members left out or wrong."""
    for value in _WRONG:
        yield bytes(encode_data(value))
    sample = decode_text(samples[0]) if samples else None
    if not isinstance(sample, dict):
        return
    for name in sample:
        yield bytes(encode_data({key: value for key, value in sample.items() if key != name}))
        for value in _WRONG:
            yield bytes(encode_data({**sample, name: value}))


DESCRIBED = (describe, samples, unfitting)
