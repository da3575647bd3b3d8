"""Where the exchange of one node meets the other nodes of the same server (docs/scale.md)."""
