"""Whole networks of servers in one process, on a simulated clock."""
