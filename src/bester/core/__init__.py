"""Decides what is done with a message: no I/O, and time is an argument."""
