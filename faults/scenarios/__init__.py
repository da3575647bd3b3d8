"""The scenarios; each takes the run and notes its results there."""

from collections.abc import Awaitable, Callable

from faults.run import Run
from faults.scenarios.cluster import cluster
from faults.scenarios.diskfull import diskfull
from faults.scenarios.fsync import fsync
from faults.scenarios.handlers import handlers
from faults.scenarios.keeping import keeping
from faults.scenarios.kill import kill
from faults.scenarios.netcut import netcut
from faults.scenarios.partition import partition
from faults.scenarios.peeraway import peeraway
from faults.scenarios.powercut import powercut
from faults.scenarios.sigterm import sigterm
from faults.scenarios.slow import slow

Scenario = Callable[[Run], Awaitable[None]]

SCENARIOS: dict[str, tuple[Scenario, str]] = {
    "kill": (kill, "kill -9 at random moments, and at each named point"),
    "powercut": (powercut, "losses of power: what was not synced is gone"),
    "fsync": (fsync, "syncs that fail"),
    "diskfull": (diskfull, "a disk that fills up, and is emptied, without a restart"),
    "peeraway": (peeraway, "another server that is away, and one that comes and goes"),
    "netcut": (netcut, "a network that carries nothing any more, without a word"),
    "handlers": (handlers, "bad handlers beside a healthy one"),
    "cluster": (cluster, "nodes of one server, and the NATS servers between them, killed in turns"),
    "partition": (partition, "nodes of one server, one of which is cut off from the others in turns"),
    "slow": (slow, "receivers that do not read, beside those that do"),
    "sigterm": (sigterm, "SIGTERM under load"),
    "keeping": (keeping, "what it costs to keep messages, and to keep none"),
}
"""The scenarios by name, each with a description."""
