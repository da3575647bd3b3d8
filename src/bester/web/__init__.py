"""The listener ``web``: WebSocket clients, the console with its back end, metrics and health."""
