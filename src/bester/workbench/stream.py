"""The answer to one request with ``parts``, as it comes (docs/protocol.md, section 6.7)."""

from __future__ import annotations

import asyncio

from bester.timeouts import within
from bester.workbench.answers import Answer
from bester.workbench.contract import Failed, Late


class Stream:
    """What a handler has sent for one request.

    Args:
        id: of the request.
        credit: how many replies are granted.
        last: the last answer.
    """

    def __init__(self, id: str, credit: int, last: asyncio.Future[Answer]) -> None:
        self.id = id
        self.credit = credit
        self.last = last
        self.replies: list[bytes] = []
        """The data of the replies that came in parts."""
        self._came = asyncio.Event()
        last.add_done_callback(lambda _: self._came.set())

    def part(self, answer: Answer) -> None:
        """Takes a part.

        Raises:
            Failed: it has more replies than are granted.
        """
        replies = answer.replies()
        if len(replies) > self.credit:
            raise Failed(
                f"a part came with a reply that was not granted: replies in it: {len(replies)}, still granted: "
                f"{self.credit}, already used: {len(self.replies)}"
            )
        self.credit -= len(replies)
        self.replies += replies
        self._came.set()

    async def used_up(self, timeout_s: float) -> bool:
        """Waits until all that is granted is used up; returns False if the last answer has come instead.

        Raises:
            Failed: an answer is wrong, or neither comes in time.
        """
        while self.credit and not self.last.done():
            self._came.clear()
            try:
                async with within(timeout_s):
                    await self._came.wait()
            except TimeoutError:
                raise Late(f"neither a part nor the last answer came within {timeout_s:g} s") from None
        if self.last.done():
            self.last.result()
        return not self.last.done()
