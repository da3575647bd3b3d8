"""The scenarios; each takes the run and a stack that ends its servers."""

from bench.run import Scenario
from bench.scenarios.cluster import cluster
from bench.scenarios.crowds import beside_idle, idle, logins
from bench.scenarios.fanout import fan_out
from bench.scenarios.hostile import decoding
from bench.scenarios.instructions import instructions
from bench.scenarios.keeping import keeping
from bench.scenarios.life import start, steady
from bench.scenarios.roundtrips import classic, lean, sdk
from bench.scenarios.secure import secure
from bench.scenarios.watching import watching

SCENARIOS: dict[str, tuple[Scenario, str]] = {
    "roundtrips": (lean, "client, server, handler and back, with lean load generators"),
    "classic": (classic, "the same with a connection for each message"),
    "sdk": (sdk, "the same with our library, and with nats-py, at both ends"),
    "secure": (secure, "round trips and idle clients over TLS and over WebSockets, where a C compiler is"),
    "fanout": (fan_out, "one message to 1,000 clients, one of which does not read"),
    "idle": (idle, "memory of idle clients"),
    "logins": (logins, "many log in with tokens while messages flow"),
    "beside": (beside_idle, "round trips beside idle clients"),
    "steady": (steady, "a long load"),
    "start": (start, "from the start to ready"),
    "instructions": (instructions, "what a message takes in user space, where valgrind is installed"),
    "decoding": (decoding, "the hardest frames there are, and another client beside them"),
    "watching": (watching, "what of that is for routes, receipts and metrics that nobody asked for"),
    "keeping": (keeping, "messages for accounts that are away, beside a bare SQLite loop"),
    "cluster": (cluster, "nodes of one server: messages within and between them, letters, 20,000 idle clients"),
}
"""The scenarios by name, each with a description."""
