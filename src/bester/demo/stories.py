"""The two stories, and the conditions that must hold at their ends."""

from __future__ import annotations

import asyncio
import shlex
from typing import Any

from bester import Client, ClientError, Informer, ReceivedMessage, Report
from bester.demo.stage import Stage, quoted
from bester.demo.world import Place, Played, StoryError, World, together
from bester.timeouts import within

PASSWORD = "demo"
ARRIVAL_S = 10.0

AFRIKAANS_TEXT = "Goeie môre! Hoe gaan dit met jou? Die trein kom môre."
AFRIKAANS_IN_ENGLISH = "Good morning! How are you? The train comes tomorrow."
PORTUGUESE_TEXT = "Bom dia, amigo! O comboio chega amanhã. Até logo!"
PORTUGUESE_IN_ENGLISH = "Good morning, friend! The train arrives tomorrow. See you later!"
GREETING = "Hello from U1"
WAY = ["S1 M1", "S1 M2", "S2 M1", "S3 M1"]


class Actor:
    """A user with a client, whose actions are shown."""

    def __init__(self, stage: Stage, user: str) -> None:
        self.stage = stage
        self.user = user
        self.place: Place | None = None
        self.client: Client | None = None

    async def __aenter__(self) -> Actor:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.leave()

    async def connect(self, place: Place) -> None:
        """Connects to a server, and leaves the previous one."""
        await self.leave()
        self.client = await Client.connect(place.url(self.user), password=PASSWORD, mail=True)
        self.place = place
        self.stage.show(self.user, f"connects to {place.name} as {self.user}")

    async def leave(self) -> None:
        """Disconnects; returns when the server has noticed."""
        if self.client is None or self.place is None:
            return
        await self.client.close()
        async with within(ARRIVAL_S), Informer(self.place.folder / "bInformer") as informer:
            while await informer.is_client(self.user):  # noqa: ASYNC110 - it takes only microseconds
                await asyncio.sleep(0.005)
        self.stage.show(self.user, f"leaves {self.place.name}")
        self.client = self.place = None

    async def send(self, type: str, data: dict[str, Any]) -> Report:
        """Sends a message and shows the report.

        Raises:
            StoryError: there is no report.
        """
        assert self.client is not None
        assert self.place is not None
        self.stage.show(self.user, f"to {self.place.name}, {type}: {quoted(data['text'])}", "yellow")
        try:
            report = await self.client.send(type, data, timeout=ARRIVAL_S)
        except (ClientError, TimeoutError) as error:
            raise StoryError(f"{self.user} got no report: {error or 'too late'}") from error
        results = ", ".join(f"{result.to} {result.status}" for result in report.results)
        self.stage.show(self.user, f"has the report: {'good' if report.good else f'bad, {report.error}'}; {results}")
        return report

    async def receive(self) -> ReceivedMessage:
        """Waits for a message, and shows it.

        Raises:
            StoryError: no message arrives.
        """
        assert self.client is not None
        assert self.place is not None
        try:
            message = await self.client.receive(timeout=ARRIVAL_S)
        except (ClientError, TimeoutError) as error:
            raise StoryError(f"nothing arrived at {self.user} on {self.place.name}") from error
        self.stage.show(self.user, f"from {self.place.name}, {message.type}: {quoted(message.data['text'])}", "green")
        return message


async def deliver(sender: Actor, receiver: Actor, type: str, data: dict[str, Any]) -> ReceivedMessage:
    """Sends a message and returns the message that arrives.

    Raises:
        StoryError: nothing arrives, or the report is bad.
    """
    arriving = asyncio.create_task(receiver.receive())
    try:
        report = await sender.send(type, data)
        if not report.good:
            raise StoryError(f"the report is bad: {report.error}")
        return await arriving
    finally:
        arriving.cancel()
        await asyncio.gather(arriving, return_exceptions=True)


def expect(what: str, found: object, expected: object) -> None:
    """Compares a result with its expected value.

    Raises:
        StoryError: they differ.
    """
    if found != expected:
        raise StoryError(f"{what}: expected {expected!r}, found {found!r}")


def stops(stage: Stage) -> list[str]:
    """Returns the handlers that sent events, in order."""
    stage.hear()
    return [f"{event['server']} {event['handler']}" for event in stage.told]


async def story_one(stage: Stage, world: World) -> tuple[list[str], list[str]]:
    """Plays story 1: T writes to G, who is first on the same server and then on another one.

    Returns:
        The messages that arrived, and commands to continue by hand.

    Raises:
        StoryError: something is missing.
    """
    stage.scene("Story 1: T and G, and three languages on two servers")
    j, k = world.place("j.example"), world.place("k.example")
    await world.start(k, [Played("english", "bester.demo.english")])
    await world.start(
        j,
        [
            Played("afrikaans", "bester.demo.afrikaans", classic=True),
            Played("portuguese", "bester.demo.portuguese"),
            Played("english", "bester.demo.english", environment={"BESTER_DEMO_ELSEWHERE": k.name}),
        ],
        {k.name: k.address},
    )
    async with Actor(stage, "t") as t, Actor(stage, "g") as g:
        stage.scene("1a: G is on T's server; T writes Afrikaans")
        await together(t.connect(j), g.connect(j))
        first = await deliver(t, g, "afrikaans", {"to": "g", "text": AFRIKAANS_TEXT})
        expect("G's text", first.data["text"], AFRIKAANS_IN_ENGLISH)
        expect("the way", stops(stage), ["j.example afrikaans"])

        stage.scene("1b: G is on the other server, which knows no Portuguese; T writes Portuguese")
        await g.connect(k)
        second = await deliver(t, g, "portuguese", {"to": "g", "text": PORTUGUESE_TEXT})
        expect("G's text", second.data["text"], PORTUGUESE_IN_ENGLISH)
        expect("the way", stops(stage), ["j.example portuguese", "j.example english", "k.example english"])
    arrived = [
        f"1a: G on {j.name} got {quoted(first.data['text'])}",
        f"1b: G on {k.name} got {quoted(second.data['text'])}",
    ]
    data = '{"to": "g", "text": "Boa tarde, amigo!"}'
    return arrived, [_listen(k, "g"), _send(j, "t", "portuguese", data)]


async def story_two(stage: Stage, world: World) -> tuple[list[str], list[str]]:
    """Plays story 2: U1 writes an M1 to S1; it goes through M2 there, then through S2 and S3 to U2.

    Returns:
        The messages that arrived, and commands to continue by hand.

    Raises:
        StoryError: something is missing.
    """
    stage.scene("Story 2: U1 > S1: M1 > M2 > S2: M1 > S3: M1 > U2")
    one, two, three = (world.place(name) for name in ("S1", "S2", "S3"))
    relay = "bester.demo.relay"
    await together(
        world.start(
            one,
            [
                Played("M1", relay, classic=True, environment={"BESTER_DEMO_NEXT": "handler M2"}),
                Played("M2", relay, environment={"BESTER_DEMO_NEXT": f"server {two.unix}"}),
            ],
        ),
        world.start(two, [Played("M1", relay, environment={"BESTER_DEMO_NEXT": f"server {three.unix}"})]),
        world.start(three, [Played("M1", relay, environment={"BESTER_DEMO_NEXT": "client u2"})]),
    )
    async with Actor(stage, "u1") as u1, Actor(stage, "u2") as u2:
        stage.scene("2: U1 is on S1, U2 on S3")
        await together(u1.connect(one), u2.connect(three))
        message = await deliver(u1, u2, "M1", {"text": GREETING, "way": []})
        expect("U2's message", (message.type, message.data), ("M1", {"text": GREETING, "way": WAY}))
        expect("the way", stops(stage), WAY)
    arrived = [f"2: U2 on {three.name} got {quoted(message.data['text'])} by way of {' > '.join(message.data['way'])}"]
    return arrived, [_listen(three, "u2"), _send(one, "u1", "M1", '{"text": "Hello again", "way": []}')]


def _listen(place: Place, user: str) -> str:
    return f"BESTER_PASSWORD={PASSWORD} bester listen --to {place.url(user)}"


def _send(place: Place, user: str, type: str, data: str) -> str:
    return f"BESTER_PASSWORD={PASSWORD} bester send --to {place.url(user)} {type} {shlex.quote(data)}"
