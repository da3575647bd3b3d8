"""The subjects by which the nodes of one server reach each other."""

from __future__ import annotations

MAX_KNOWN = 2000
"""Of how many nodes the subject is kept, so that it is not made for each item."""


def token(text: str) -> str:
    """Returns a text as one part of a subject: the hexadecimal digits of its UTF-8, which sort as its code points."""
    return text.encode("utf-8", "surrogatepass").hex()


class Subjects:
    """Those of one server."""

    def __init__(self, server: str) -> None:
        self.root = f"bester.{token(server)}"
        self.all = f"{self.root}.nodes"
        """All nodes."""
        self.presence = f"{self.root}.presence"
        """Which accounts' sessions come and go; only nodes listen where somebody watches."""
        self.account_prefix = f"{self.root}.account."
        self._nodes: dict[str, str] = {}

    def node(self, node: str) -> str:
        """One node."""
        subject = self._nodes.get(node)
        if subject is None:
            if len(self._nodes) >= MAX_KNOWN:
                self._nodes.clear()
            subject = self._nodes[node] = f"{self.root}.node.{token(node)}"
        return subject

    def account(self, username: str) -> str:
        """The nodes with sessions of an account."""
        return self.account_prefix + token(username)
