"""What a server's streams and their subjects are called."""

from __future__ import annotations


class Names:
    """Those of one server: several may use the same NATS."""

    def __init__(self, server: str) -> None:
        self._server = self.token(server)

    @staticmethod
    def token(text: str) -> str:
        """Returns a text as one part of a subject: its UTF-8 in hexadecimal digits, which sort as its code points."""
        return text.encode("utf-8", "surrogatepass").hex()

    def stream(self, what: str) -> str:
        """Returns a stream's name."""
        return f"BESTER_{self._server}_{what}"

    def subject(self, *parts: str) -> str:
        """Returns a subject."""
        return ".".join(("bester", self._server, "kept", *parts))
