"""A simulated NATS server with JetStream (``server.py``)."""

from bester.lab.nats.connection import Settings
from bester.lab.nats.faults import USUAL, Fate, Fates
from bester.lab.nats.server import NatsCluster, NatsServer

__all__ = ["USUAL", "Fate", "Fates", "NatsCluster", "NatsServer", "Settings"]
