"""The checks of answers in parts and of cancelled requests (docs/protocol.md, sections 6.7 and 6.8)."""

from __future__ import annotations

from bester.protocol import frames
from bester.workbench.attached import AttachedBench
from bester.workbench.bench import Bench
from bester.workbench.check import check
from bester.workbench.connection import request
from bester.workbench.contract import Skipped
from bester.workbench.stream import Stream

_GRANTS = (1, 1, 2, 8, 88)
"""How many parts are granted, one after the other; an answer with more than all of these is not read to its end."""


async def _here(bench: Bench, *features: str) -> AttachedBench:
    """Returns a bench whose handler has listed any of the features."""
    assert isinstance(bench, AttachedBench)
    listed = await bench.features()
    if not any(feature in listed for feature in features):
        raise Skipped(f"it does not list the feature {' or '.join(features)}, so servers do not use it")
    return bench


@check(
    "parts",
    "6.7",
    "Asked in parts, the handler sends no more replies than are granted, goes on after more, and sends a last answer.",
)
async def parts(bench: Bench) -> None:
    here = await _here(bench, "parts")
    stream = await here.ask_in_parts(here.sample, 1)
    if not await stream.used_up(here.options.timeout_s) and not stream.replies:
        bench.compare(here.sample, stream.last.result())
        raise Skipped("it sent no parts for the sample: give data that it answers in parts with --sample")
    await _read_on(here, stream)
    here.described.check_replies(stream.replies, ("parts",))
    if not here.stopping:
        # Nothing is granted at first, as after an earlier handler that has used up all.
        await _read_on(here, await here.ask_in_parts(here.sample, 0))
        await here.serves_on()


async def _read_on(here: AttachedBench, stream: Stream) -> None:
    """Grants more until the last answer has come.

    Raises:
        Failed: the handler sent more than was granted, or did not go on.
    """
    connection = await here.attached()
    for granted in _GRANTS:
        if not await stream.used_up(here.options.timeout_s):
            break
        await here.quiet()
        if stream.last.done():
            break
        await connection.grant(stream, granted)
    if not await stream.used_up(here.options.timeout_s):
        here.described.check_replies(stream.last.result().replies(), ("answer", "parts"))
    elif "cancel" in connection.features:
        await connection.write(frames.cancel(stream.id))
        await connection.answer_to(stream.last)
    else:
        here.note = f"it had sent {len(stream.replies)} parts and not ended; it does not list the feature cancel"
        here.stopping = True  # the next check has a process of its own


@check("cancel", "6.8", "A request that is cancelled is still answered once, with any status; the handler serves on.")
async def cancel(bench: Bench) -> None:
    here = await _here(bench, "cancel")
    connection = await here.attached()
    id = here.new_id()
    last = connection.expect(id)
    await connection.write(request(id, here.type, here.sample) + frames.cancel(id))
    await connection.answer_to(last)
    if "parts" in connection.features:
        stream = await here.ask_in_parts(here.sample, 1)
        await stream.used_up(here.options.timeout_s)
        await connection.write(frames.cancel(stream.id))
        await connection.answer_to(stream.last)
    await here.serves_on()


@check(
    "passed-over",
    "6.7, 6.8",
    "A cancel and a more for a request that has been answered or is unknown are passed over.",
)
async def passed_over(bench: Bench) -> None:
    here = await _here(bench, "cancel", "parts")
    connection = await here.attached()
    answered = here.new_id()
    await here.ask(here.sample, id=answered)
    for id in (answered, "unknown"):
        if "cancel" in connection.features:
            await connection.write(frames.cancel(id))
        if "parts" in connection.features:
            await connection.write(frames.more(id, 1))
    await here.serves_on()


PARTS = (parts, cancel, passed_over)
