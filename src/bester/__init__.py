"""Bester: a federated, pluggable message exchange."""

__version__ = "0.1.0"
