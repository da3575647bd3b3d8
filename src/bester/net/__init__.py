"""Sockets: listeners, dialling, TLS."""
