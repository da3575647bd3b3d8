"""WebSocket frames as browsers send them."""

from __future__ import annotations

from bester.web.messages import frame, unmasked

MASK = b"\x01\x02\x03\x04"


def sent(opcode: int, data: bytes, last: bool = True) -> bytes:
    """Returns a frame as a browser sends it."""
    whole = bytearray(frame(opcode, data))
    if not last:
        whole[0] &= 0x7F
    head = len(whole) - len(data)
    whole[1] |= 0x80
    return bytes(whole[:head]) + MASK + unmasked(MASK, data)
