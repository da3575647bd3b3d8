"""The stores of a cluster: streams of NATS JetStream, which all of its nodes share (docs/scale.md)."""
