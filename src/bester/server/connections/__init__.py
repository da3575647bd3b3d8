"""Connections: bytes become frames and messages; each kind of peer has its conversation."""
