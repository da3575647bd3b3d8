"""The NATS subjects on which the nodes of one server reach each other."""

from __future__ import annotations

MAX_KNOWN = 2000
"""How many nodes' subjects are cached, so that they are not built for each item."""


def token(text: str) -> str:
    """Returns a text as one token of a subject: the hexadecimal digits of its UTF-8, which sort by code point."""
    return text.encode("utf-8", "surrogatepass").hex()


class Subjects:
    """The subjects of one server."""

    def __init__(self, server: str) -> None:
        self.root = f"bester.{token(server)}"
        self.all = f"{self.root}.nodes"
        """The subject of all nodes."""
        self.presence = f"{self.root}.presence"
        """The subject for changes of accounts' presence; only nodes with a watcher subscribe to it."""
        self.account_prefix = f"{self.root}.account."
        self._nodes: dict[str, str] = {}

    def node(self, node: str) -> str:
        """Returns the subject of one node."""
        subject = self._nodes.get(node)
        if subject is None:
            if len(self._nodes) >= MAX_KNOWN:
                self._nodes.clear()
            subject = self._nodes[node] = f"{self.root}.node.{token(node)}"
        return subject

    def account(self, username: str) -> str:
        """Returns the subject of the nodes with sessions of an account."""
        return self.account_prefix + token(username)
