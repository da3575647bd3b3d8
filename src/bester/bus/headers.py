"""Headers of NATS messages: a block of lines, as in HTTP."""

from __future__ import annotations

from collections.abc import Mapping


def header_block(fields: Mapping[str, str]) -> bytes:
    """Returns a message's headers; names and values are ours, without line ends."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"NATS/1.0\r\n{lines}\r\n".encode()


def header(block: bytes, name: str) -> str | None:
    """Returns one header's value; names compare as they are written."""
    for line in block.split(b"\r\n")[1:]:
        key, colon, value = line.partition(b":")
        if colon and key == name.encode():
            return value.strip().decode(errors="replace")
    return None
