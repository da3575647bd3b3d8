"""What becomes of messages when things go wrong: ``python -m faults``; docs/reliability.md tells what came of it."""
