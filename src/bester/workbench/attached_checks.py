"""The checks of a handler that attaches (docs/protocol.md, section 6)."""

from __future__ import annotations

import asyncio

from bester.protocol import frames
from bester.protocol.framing import frame
from bester.timeouts import within
from bester.workbench.attached import AttachedBench
from bester.workbench.bench import Bench
from bester.workbench.check import check
from bester.workbench.checks import COMMON
from bester.workbench.connection import request
from bester.workbench.contract import SAMPLE, Failed, Skipped
from bester.workbench.described_checks import DESCRIBED
from bester.workbench.parts_checks import PARTS

AWAY_S = 0.3
"""How long the server is away."""
_IDS = ("1", 'r-"\\\u00e9/\U0001f600', "0", "x" * 200)
_JOINED = 5


def _here(bench: Bench) -> AttachedBench:
    assert isinstance(bench, AttachedBench)
    return bench


@check(
    "attach", "6.1", "The handler connects to the socket in BESTER_HANDLERS, and its first frame names 1 to 256 types."
)
async def attach(bench: Bench) -> None:
    here = _here(bench)
    await here.attached()
    types = here.told.types
    if here.options.type not in types and len(types) > 1:
        here.note = f"it serves {', '.join(types)}; the checks use {here.type}: choose with --type"


@check("answer", "6.3", "Each request is answered once, with its id, a status, and commands of section 3.3.")
async def answer(bench: Bench) -> None:
    if not (await bench.ask_sample()).good and bench.sample == SAMPLE:
        bench.note = "it did not accept the sample, which it need not; give data that it accepts with --sample"
    await bench.quiet()


@check("joined", "1.1", "Many frames may come in one read, and a part of the next one.")
async def joined(bench: Bench) -> None:
    here = _here(bench)
    connection = await here.attached()
    for _ in range(2):
        ids = [here.new_id() for _ in range(min(_JOINED, here.at_once))]
        whole = b"".join(request(id, here.type, here.sample) for id in ids)
        futures = [connection.expect(id) for id in ids]
        await connection.write(whole[:-20])
        await asyncio.sleep(AWAY_S / 10)
        await connection.write(whole[-20:])
        for future in futures:
            bench.compare(here.sample, await connection.answer_to(future))


@check("members", "1.2", "Unknown members are ignored, and the order of members and the white space do not matter.")
async def members(bench: Bench) -> None:
    here = _here(bench)
    sample = here.sample
    type = frames.encode_text(here.type)
    connection = await here.attached()
    for form in (
        b'{"header":{"messageType":"request","id":"%b","scope":"client","hops":0,"priority":[1,{"id":"no"}]},'
        b'"payload":{"type":%b,"id":"c","data":%b,"more":null},"trailer":{"id":"no"}}',
        b'{"payload":{"data":%b,"id":"c","type":%b},"header":{"hops":3,"id":"%b","scope":"client","messageType":"request"}}',
        b' {\r\n\t"header" : {"messageType" : "request" , "id" : "%b" } ,\n "payload" : {"type": %b, "data" : %b } }\n',
    ):
        id = here.new_id()
        parts = (id.encode(), type, sample)
        whole = frame(form % (parts if form.index(b"header") < form.index(b"payload") else parts[::-1]))
        bench.compare(sample, await here.ask_frame(connection, id, whole))


@check(
    "ids", "6.2", "The id is the server's, any string, and comes back as it was; the sender's own tag is another one."
)
async def ids(bench: Bench) -> None:
    here = _here(bench)
    for id in (*_IDS, *_IDS):  # each id again, after it has been answered
        await here.ask(here.sample, id=id, client_id='the "sender\'s" tag \u00e9')


@check("senders", "6.2", "header.from says who sent the message, even if that is a server or nobody.")
async def senders(bench: Bench) -> None:
    here = _here(bench)
    for scope, server, verified in (
        ("server", "k.example", True),
        ("server", None, False),
        ("handler", "j.example", True),
    ):
        who = {"user": None, "server": server, "verified": verified}
        await here.ask(here.sample, header={"scope": scope, "from": who, "hops": 1}, client_id="")


@check("dry-run", "7.2", "A handler that lists the feature dryRun answers dry runs too.")
async def dry_run(bench: Bench) -> None:
    here = _here(bench)
    if "dryRun" not in here.hello.header.features:
        raise Skipped("it does not list the feature dryRun, so servers do not ask it")
    await here.ask(here.sample, header={"dryRun": True})


@check("fatal", "6.5", "After the server's last message the handler attaches again.")
async def fatal(bench: Bench) -> None:
    await _here(bench).end_in_order()
    await bench.ask_sample()


@check("restart", "6.5", "When the server was away, the handler attaches again once it is back.")
async def restart(bench: Bench) -> None:
    here = _here(bench)
    await here.stop_listening()
    await asyncio.sleep(AWAY_S)
    bench.transcript.note("the server is back")
    await here.listen()
    await here.attached()
    await bench.ask_sample()


@check("detach", "6.5", "On SIGTERM the handler sends detach, answers the outstanding requests, and ends.")
async def detach(bench: Bench) -> None:
    here = _here(bench)
    connection = await here.attached()
    connection.hold_detach = True
    assert here.process is not None
    here.stopping = True
    sample = here.sample
    before = [here.new_id() for _ in range(min(3, here.at_once))]
    futures = [connection.expect(id) for id in before]
    await connection.write(b"".join(request(id, here.type, sample) for id in before))
    here.process.terminate()
    bench.transcript.note("SIGTERM")
    detaching = asyncio.create_task(connection.detaching.wait())
    lost = asyncio.create_task(connection.lost.wait())
    await asyncio.wait({detaching, lost}, timeout=here.options.timeout_s, return_when=asyncio.FIRST_COMPLETED)
    detaching.cancel()
    lost.cancel()
    if not connection.detaching.is_set():
        what = "ended" if connection.lost.is_set() else f"did not send detach within {here.options.timeout_s:g} s"
        raise Failed(f"after SIGTERM the handler {what}; without a detach, messages sent meanwhile are lost")
    # A request that the server had sent before it read the detach.
    late = here.new_id()
    futures.append(connection.expect(late))
    await connection.write(request(late, here.type, sample))
    connection.report_detach()
    for future in futures:
        await connection.answer_to(future)
    try:
        async with within(here.options.timeout_s):
            await asyncio.shield(here.process.ended)
    except TimeoutError:
        raise Failed(
            f"after SIGTERM and all answers the handler did not end within {here.options.timeout_s:g} s"
        ) from None


ATTACHED = (
    attach,
    answer,
    *DESCRIBED,
    *COMMON[:1],
    joined,
    members,
    ids,
    senders,
    *COMMON[1:],
    *PARTS,
    fatal,
    restart,
    dry_run,
    detach,
)
"""All checks of this form, in the order in which they are run."""
