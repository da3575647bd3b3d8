"""Faults that are planted in copies of the source, to see whether the search finds them: ``python -m lab.plants``."""
