"""The figures of Bester beside its peers, measured on one machine in one run: ``python -m bench``."""
