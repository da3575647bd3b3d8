"""The names of a server's streams, and of their subjects."""

from __future__ import annotations


class Names:
    """The names of one server's streams and subjects: several servers may use the same NATS."""

    def __init__(self, server: str) -> None:
        self._server = self.token(server)

    @staticmethod
    def token(text: str) -> str:
        """Returns a text as one token of a subject: its UTF-8 in hexadecimal digits, which sort as its code points."""
        return text.encode("utf-8", "surrogatepass").hex()

    @staticmethod
    def text(token: str) -> str:
        """Returns the text of a token."""
        return bytes.fromhex(token).decode("utf-8", "surrogatepass")

    def stream(self, name: str) -> str:
        """Returns a stream's full name."""
        return f"BESTER_{self._server}_{name}"

    def subject(self, *parts: str) -> str:
        """Returns a subject."""
        return ".".join(("bester", self._server, "kept", *parts))
