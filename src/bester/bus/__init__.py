"""The connection to NATS that the stores and nodes of a cluster share (docs/scale.md)."""
