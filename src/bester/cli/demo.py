"""``bester demo``: plays two stories that show what Bester does, on real servers."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from typing import TYPE_CHECKING, Annotated

import typer

from bester.cli.output import BAD, GOOD, fail
from bester.cli.settings import JsonOption

if TYPE_CHECKING:
    from bester.demo.stage import Stage

INTERRUPTED = 130


def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Keep everything running until ^C, to try it out.")] = False,
    json: JsonOption = False,
) -> None:
    """Play two stories on real servers, and check how they end.

    The servers, their handlers and clients are in a temporary folder.

    Exit status: 0 if everything arrived as it should, 1 if not.
    """
    from bester.demo.stage import Stage
    from bester.demo.world import StoryError

    try:
        finished = asyncio.run(_until_signal(Stage(json), keep))
    except StoryError as error:
        fail(str(error), BAD)
    except OSError as error:
        fail(f"the demo cannot be played: {error}", BAD)
    raise typer.Exit(GOOD if finished else INTERRUPTED)


async def _until_signal(stage: Stage, keep: bool) -> bool:
    """Plays until the end, or until a signal, which also ends all processes; returns whether the stories ended."""
    loop = asyncio.get_running_loop()
    played = asyncio.Event()
    playing = loop.create_task(_play(stage, keep, played))
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, playing.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await playing
    return played.is_set()


async def _play(stage: Stage, keep: bool, played: asyncio.Event) -> None:
    from bester.demo.stories import story_one, story_two
    from bester.demo.world import World

    arrived: list[str] = []
    commands: list[str] = []
    async with contextlib.AsyncExitStack() as stack:
        for story in (story_one, story_two):
            async with contextlib.AsyncExitStack() as its_own:
                world = await (stack if keep else its_own).enter_async_context(World(stage))
                news, more = await story(stage, world)
                arrived += news
                commands += more
        stage.end(arrived)
        played.set()
        if keep:
            stage.remark(["Everything still runs, until ^C. In other terminals:", *(f"  {line}" for line in commands)])
            await asyncio.Event().wait()
