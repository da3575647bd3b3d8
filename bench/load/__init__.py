"""The programs that make the load: each a process of its own, started by a peer or a scenario."""
