"""The search for faults: plays that are drawn from seeds, run in simulated worlds, and judged."""
