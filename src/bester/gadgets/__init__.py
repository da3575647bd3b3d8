"""Ready-made handlers, each a program of its own that stands on the library alone (docs/gadgets.md)."""
