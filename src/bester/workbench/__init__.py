"""Tools for handler authors: skeletons to start from, and checks of a handler's contract (docs/check.md)."""
