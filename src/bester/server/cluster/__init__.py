"""The other nodes of this server."""
