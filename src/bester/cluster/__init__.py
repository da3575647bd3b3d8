"""The messages between the nodes of one server (docs/scale.md)."""
