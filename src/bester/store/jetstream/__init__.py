"""Stores in streams of NATS JetStream, which all nodes of a cluster share (docs/scale.md)."""
