"""Chat in a terminal: ``bester chat`` (needs the extra ``chat``, for textual)."""
