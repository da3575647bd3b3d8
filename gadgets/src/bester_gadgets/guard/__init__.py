"""A ready-made guard: rates, block lists, and consent at first contact (docs/guard.md)."""
