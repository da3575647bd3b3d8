"""Sockets: listeners, outgoing connections, TLS."""
