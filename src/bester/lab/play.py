"""Runs plays: coroutine functions that are given a world, once for each of several seeds."""

from __future__ import annotations

import asyncio
import inspect
import os
from collections.abc import Callable, Coroutine, Iterable
from functools import wraps
from gc import collect, freeze, unfreeze
from typing import Any, overload

from bester.lab.caught import Caught, collected
from bester.lab.loop import START_S, Stuck
from bester.lab.stage import LabWorld
from bester.lab.story import Story
from bester.lab.world import World

SEEDS = 20
LIMIT_S = 3600.0
VARIABLE = "BESTER_LAB_SEED"
FEW_LINES, MANY_LINES = 30, 300
"""How many lines a failure shows, of a play that ran with several seeds, and with one."""

Play = Callable[..., Coroutine[Any, Any, None]]
Test = Callable[..., None]


@overload
def lab(play: Play, /) -> Test: ...
@overload
def lab(*, seeds: int | Iterable[int] = SEEDS, limit_s: float = LIMIT_S) -> Callable[[Play], Test]: ...
def lab(
    play: Play | None = None, /, *, seeds: int | Iterable[int] = SEEDS, limit_s: float = LIMIT_S
) -> Test | Callable[[Play], Test]:
    """Makes a test of a coroutine function that plays in a simulated world::

        @lab(seeds=50)
        async def test_shop(world):
            shop = world.server("shop.example", handlers=[make_shop])
            await world.start()
            ann = await world.client(shop, "ann")
            async with world.trouble():
                assert (await ann.send("buy", "pear", once=True)).good

    The test is a plain function, for any framework. It runs the play once for each seed, on an event loop of its own on
    which time is simulated; the same seed gives the same run. The play gets the parameter ``world``, a
    :class:`LabWorld`, ``seed`` if it has such a parameter, and all that the test is called with.

    A failure has its own type and traceback, and a note: the seed, and what happened last. ``test_shop(seed=17)``
    runs that one alone, and so does ``BESTER_LAB_SEED=17`` in the environment.

    Args:
        seeds: how many, from 0 on; or which.
        limit_s: the simulated seconds that the play may take.

    Raises:
        TypeError: it is no coroutine function, or has no parameter ``world``.
    """

    def decorate(play: Play) -> Test:
        if not inspect.iscoroutinefunction(play):
            raise TypeError(f"a play is an async def function; got {play!r:.200}")
        parameters = inspect.signature(play).parameters
        if "world" not in parameters:
            raise TypeError(f"{play.__qualname__} needs a parameter named world")
        usual = list(range(seeds)) if isinstance(seeds, int) else list(seeds)
        if not usual:
            raise ValueError("seeds must be a number of seeds, or the seeds; got none")

        @wraps(play)
        def test(*args: Any, seed: int | None = None, **kwargs: Any) -> None:
            _refuse_loop(play)
            chosen = _chosen(seed) or usual
            for number, one in enumerate(chosen):
                given = kwargs | {"seed": one} if "seed" in parameters else kwargs
                performance = _Performance(play, one, limit_s)
                try:
                    performance.run(args, given)
                except BaseException as error:
                    error.add_note(performance.account(error, number, FEW_LINES if len(chosen) > 1 else MANY_LINES))
                    raise

        del test.__wrapped__
        others = [parameter for name, parameter in parameters.items() if name != "world"]
        test.__signature__ = inspect.Signature(others)  # type: ignore[attr-defined]
        return test

    return decorate if play is None else decorate(play)


def _chosen(seed: int | None) -> list[int]:
    """Returns the one seed that the call or the environment asks for."""
    if seed is not None:
        return [seed]
    text = os.environ.get(VARIABLE)
    try:
        return [int(text)] if text else []
    except ValueError:
        raise ValueError(f"{VARIABLE} must be a whole number; got {text!r:.100}") from None


def _refuse_loop(play: Play) -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RuntimeError(
        f"{play.__qualname__} was called while an event loop runs, and a lab has a loop of its own: "
        "call it from a function that is not async"
    )


class _Performance:
    """One run of a play.

    Args:
        play: the play.
        seed: its seed.
        limit_s: the simulated seconds that it may take.
    """

    def __init__(self, play: Play, seed: int, limit_s: float) -> None:
        self._play = play
        self._seed = seed
        self._limit_s = limit_s
        self._errors: list[Caught] = []
        self._story = Story()
        self._world = world = World(seed, self._story.line)
        world.network.on_arrival = lambda *arrived: self._story.arrived(world.loop.time(), *arrived)

    def run(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Performs it.

        Raises:
            Exception: what the play raised, or, if it raised nothing, what nobody caught.
        """
        world = self._world
        freeze()  # so that only what the play made is looked through at its end
        try:
            with collected(world.loop, self._errors):
                world.run(self._performed(self._play(*args, world=LabWorld(world, self._errors), **kwargs)))
        finally:
            unfreeze()
        for one in self._errors:
            one.error.add_note(f"raised in {one.place}")
        if len(self._errors) == 1:
            raise self._errors[0].error
        if self._errors:
            raise BaseExceptionGroup("nobody caught these", [one.error for one in self._errors])

    async def _performed(self, play: Coroutine[Any, Any, None]) -> None:
        process = self._world.machine("play").process("play")
        task = asyncio.get_running_loop().create_task(process.call(play))
        await asyncio.wait([task], timeout=self._limit_s)
        if not task.done():
            raise Stuck(f"the play has not ended after {self._limit_s:g} s")
        task.result()
        collect()  # asyncio tells of a failed task that nobody looked at when it is collected

    def account(self, error: BaseException, passed: int, lines: int) -> str:
        """Returns what is to be known of a failure, and how to see it again."""
        name, seed = self._play.__name__, self._seed
        after = f" (the {passed} before it passed)" if passed else ""
        told = [
            f"{self._play.__qualname__} failed in the lab with seed {seed}{after}, "
            f"at {self._world.loop.time() - START_S:.3f} s of its time.",
            f"To run this one alone: {name}(seed={seed}), or with {VARIABLE}={seed} in the environment.",
        ]
        others = [str(one) for one in self._errors if one.error is not error]
        if others and not isinstance(error, BaseExceptionGroup):
            told += ["", "Raised besides:", *(f"  {one}" for one in others)]
        return "\n".join([*told, "", "What happened last:", *self._story.told(lines)])
