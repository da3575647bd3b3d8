"""Classic handlers, which are called, and the handler processes that the server runs."""
