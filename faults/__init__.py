"""Breaks things and counts messages: ``python -m faults``; docs/reliability.md has the results."""
