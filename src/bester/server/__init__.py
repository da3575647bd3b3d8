"""The running server: its life, its connections, handlers, accounts, and the other servers."""
