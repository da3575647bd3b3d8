"""The client of a server, and the one who asks its informer; for asyncio. The blocking one is ``bester.sync``."""
