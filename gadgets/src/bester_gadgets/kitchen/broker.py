"""The connection to an MQTT broker, made again whenever it is lost.

What comes is handed over before it is confirmed, and nothing is read meanwhile: a burst slows the broker down, by its
window and by the socket. There is no queue in between that could be full.
"""

from __future__ import annotations

import asyncio
import logging
import random
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from bester import dialling
from bester.timeouts import within
from bester_gadgets.fresh import fresh_verifying
from bester_gadgets.kitchen.retained import Retained
from bester_gadgets.kitchen.settings import Broker as BrokerSettings
from bester_gadgets.kitchen.source import Received, SourceAway

log = logging.getLogger("bester.kitchen")

KEEPALIVE_S = 30
RETRY_FIRST_S = 0.2
RETRY_MAX_S = 30.0
PUBLISH_TIMEOUT_S = 5.0
AT_ONCE = 100
"""Topics in one packet."""
REFUSED = 0x80
"""The reason codes from here on are failures."""
_PACKET_OVERHEAD = 1024


class _Hands(asyncio.Queue[aiomqtt.Message]):
    """In the place of the library's queue, which throws away what does not fit: hands over, and is always empty."""

    taker: Callable[[aiomqtt.Message], None]

    def put_nowait(self, item: aiomqtt.Message) -> None:
        self.taker(item)


class Broker:
    """One broker.

    Args:
        settings: how it is reached.
        password: returns the one for it, at each connection.
        max_payload: bytes; with MQTT 5 the broker does not even send more.

    Raises:
        OSError, ssl.SSLError: the authorities' file cannot be used.
    """

    def __init__(self, settings: BrokerSettings, password: Callable[[], str] | None, max_payload: int) -> None:
        self._settings = settings
        self._password = password
        self._max_payload = max_payload
        self._tls = fresh_verifying(settings.ca) if settings.tls else None
        self._client: aiomqtt.Client | None = None

    @property
    def connected(self) -> bool:
        """Tells whether the broker is there, and we have subscribed."""
        return self._client is not None

    async def run(self, filters: list[str], received: Received) -> None:
        """Connects, subscribes and reads; again, after a pause, whenever that ends."""
        where = f"{self._settings.host}:{self._settings.port}"
        pause_s = RETRY_FIRST_S
        newest = self._settings.version == "5"
        retained = Retained(as_published=newest)

        def take(message: aiomqtt.Message) -> None:
            topic, payload = message.topic.value, message.payload
            if isinstance(payload, bytes) and (kind := retained.kind(topic, payload, message.retain)) != "known":
                received(topic, payload, kind == "retained")

        while True:
            try:
                async with _connected(self._made(take)) as client:
                    retained.subscribing()
                    await _subscribe(client, filters, SubscribeOptions(1, retainAsPublished=True) if newest else None)
                    self._client = client
                    pause_s = RETRY_FIRST_S
                    log.info("connected to the broker at %s", where)
                    async for _ in client.messages:
                        pass  # it raises when the connection is lost
            except (aiomqtt.MqttError, OSError) as error:
                log.warning("the broker at %s: %s; trying again in %.1f s", where, str(error), pause_s)
            finally:
                self._client = None
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))
            pause_s = min(pause_s * 2, RETRY_MAX_S)

    def _made(self, take: Callable[[aiomqtt.Message], None]) -> aiomqtt.Client:
        class Hands(_Hands):
            taker = staticmethod(take)

        settings = self._settings
        properties = None
        if settings.version == "5":
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.MaximumPacketSize = self._max_payload + _PACKET_OVERHEAD
        made = aiomqtt.Client(
            settings.host,
            settings.port,
            username=settings.username,
            password=self._password() if self._password is not None else None,
            identifier=settings.client_id,
            protocol=aiomqtt.ProtocolVersion.V5 if properties is not None else aiomqtt.ProtocolVersion.V311,
            properties=properties,
            tls_context=self._tls.get() if self._tls is not None else None,
            timeout=PUBLISH_TIMEOUT_S,
            keepalive=KEEPALIVE_S,
            queue_type=Hands,
        )
        # paho's own would wait for the first address, and for nothing else.
        made._client._create_socket_connection = lambda: _dialled(settings.host, settings.port)  # type: ignore[method-assign]
        return made

    async def publish(self, topic: str, payload: bytes) -> None:
        """Sends with QoS 1.

        Raises:
            SourceAway: there is no broker, or it did not confirm in time.
        """
        client = self._client
        if client is None:
            raise SourceAway("the broker cannot be reached")
        try:
            await client.publish(topic, payload, qos=1)
        except (aiomqtt.MqttError, OSError) as error:
            raise SourceAway("the broker did not confirm the command") from error


def _dialled(host: str, port: int) -> socket.socket:
    """Connects, in the thread in which paho does so; with the time limit that paho sets itself."""

    async def dial() -> socket.socket:
        async with within(PUBLISH_TIMEOUT_S):
            return await dialling.connected(await dialling.addresses([(host, port)]))

    connected = asyncio.run(dial())
    connected.settimeout(PUBLISH_TIMEOUT_S)
    return connected


async def _subscribe(client: aiomqtt.Client, filters: list[str], options: SubscribeOptions | None) -> None:
    for start in range(0, len(filters), AT_ONCE):
        some = filters[start : start + AT_ONCE]
        wanted = [(one, options) for one in some] if options is not None else [(one, 1) for one in some]
        codes: Sequence[int | ReasonCode] = await client.subscribe(wanted)
        for one, code in zip(some, codes, strict=False):
            if (code.value if isinstance(code, ReasonCode) else code) >= REFUSED:
                log.warning("the broker does not let us read %s", one)


@asynccontextmanager
async def _connected(client: aiomqtt.Client) -> AsyncIterator[aiomqtt.Client]:
    """Connects, and disconnects at the end.

    The library does not expect to be cancelled while it connects: then it is left to finish that.
    """
    connecting = asyncio.ensure_future(client.__aenter__())
    try:
        await asyncio.shield(connecting)
    except asyncio.CancelledError:
        await asyncio.wait([connecting], timeout=PUBLISH_TIMEOUT_S)
        if connecting.done() and connecting.exception() is None:
            await client.__aexit__(None, None, None)
        raise
    try:
        yield client
    finally:
        await client.__aexit__(None, None, None)
