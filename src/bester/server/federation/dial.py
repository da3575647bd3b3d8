"""Opens a link to another server, or finds out that it grants none (docs/protocol.md, section 8.6)."""

from __future__ import annotations

import asyncio
import logging

from bester.errors import ServerUnreachable
from bester.server.federation.link import Link, quoted
from bester.server.federation.peer_route import PeerRoute
from bester.server.federation.transport import TransportOwner

log = logging.getLogger("bester.servers")

ANSWER_S = 5.0
"""How long the first message's answer may take."""


async def open_link(route: PeerRoute, owner: TransportOwner) -> Link | None:
    """Returns a link that is up, or None where the other server is a classic one.

    Raises:
        BesterError: it cannot be reached now, or says that it takes nothing now.
    """
    capabilities, destination = route.capabilities, route.destination
    if route.is_classic():
        return None
    link = Link(route, owner)
    link.connection = await route.connect(link)
    try:
        answer = await link.greet(min(ANSWER_S, route.runtime.config.federation.connect_timeout))
    except TimeoutError as silence:
        link.retire()
        raise ServerUnreachable("the other server did not answer") from silence
    except BaseException:
        link.retire()
        raise
    if answer is not None and answer.grants_link:
        if link.closed:
            raise ServerUnreachable("the link was lost")
        capabilities.linked(destination)
        link.granted(answer)
        log.info("the link to %s is up", destination, extra={"server": destination})
        return link
    link.retire()
    error = answer.payload.error if answer is not None else None
    if error is not None and error.temporary:
        raise ServerUnreachable(f"the other server says: {quoted(error)}")
    if answer is None and capabilities.has_linked(destination):
        raise ServerUnreachable("the other server closed the connection instead of an answer")
    capabilities.classic(destination, asyncio.get_running_loop().time())
    log.info("%s grants no links: messages go there in the classic form", destination)
    return None
