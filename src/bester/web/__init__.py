"""The listener ``web``: WebSocket clients, the console and its back end, metrics and health."""
