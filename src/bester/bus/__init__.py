"""The connection to NATS, which the stores and nodes of a cluster share (docs/scale.md)."""
