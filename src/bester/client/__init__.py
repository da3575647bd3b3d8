"""The asyncio client of a server, and the client of its informer. The blocking client is ``bester.sync``."""
