"""Chat between people and in rooms, across servers; docs/chat.md is its specification."""
