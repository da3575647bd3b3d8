"""Ready-made handlers for Bester, each a program of its own on the public SDK (docs/gadgets.md)."""

__version__ = "0.1.0"
