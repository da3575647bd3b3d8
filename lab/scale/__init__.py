"""Ten thousand servers in one process: the real exchange and federation, with simulated processors and networks."""
