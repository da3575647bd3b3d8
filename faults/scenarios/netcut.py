"""A network between two servers that carries nothing any more: no connection is ended, nothing is answered."""

from __future__ import annotations

import os
import shutil
import subprocess
import time

from faults.plays import FAR, PATIENCE_S, Play
from faults.run import Run, Skipped

MESSAGES = 200
NOTICED_S = 35.0
HOSTS = ("10.213.1.2", "10.213.2.2")


class Network:
    """Two network namespaces, and a third one between them that forwards, or does not."""

    def __init__(self, run: Run) -> None:
        """Makes them; they go with the run.

        Raises:
            Skipped: that cannot be done here.
        """
        if os.geteuid() != 0 or shutil.which("ip") is None:
            raise Skipped("network namespaces need root and iproute2")
        self.near, self.between, self.far = names = [f"bf{os.getpid()}{letter}" for letter in "amb"]
        for name in names:
            self._ip("netns", "add", name)
            run.ending.callback(subprocess.run, ["ip", "netns", "del", name], check=False)
        for number, name in ((1, self.near), (2, self.far)):
            end, middle = f"bf{number}", f"bm{number}"
            self._ip("-n", name, "link", "add", end, "type", "veth", "peer", "name", middle, "netns", self.between)
            for where, device, last in ((name, end, 2), (self.between, middle, 1)):
                self._ip("-n", where, "addr", "add", f"10.213.{number}.{last}/24", "dev", device)
                self._ip("-n", where, "link", "set", device, "up")
            self._ip("-n", name, "link", "set", "lo", "up")
            self._ip("-n", name, "route", "add", "default", "via", f"10.213.{number}.1")
        self.carries(True)

    def inside(self, name: str) -> list[str]:
        """Returns what a command is run by in a namespace."""
        return ["ip", "netns", "exec", name]

    def carries(self, yes: bool) -> None:
        """Lets packets through, or not."""
        self._run([*self.inside(self.between), "sh", "-c", f"echo {int(yes)} > /proc/sys/net/ipv4/ip_forward"])

    def _ip(self, *arguments: str) -> None:
        self._run(["ip", *arguments])

    def _run(self, command: list[str]) -> None:
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode:
            raise Skipped(f"{' '.join(command)}: {result.stderr.strip()}")


async def netcut(run: Run) -> None:
    """The whole scenario."""
    network = Network(run)
    play = Play(run, far=True, hosts=HOSTS)
    assert play.far is not None
    play.near.prefix, play.far.prefix = network.inside(network.near), network.inside(network.far)
    play.people(senders=2, present=0, away=0, far=2)
    await play.begin()
    play.give(MESSAGES)
    await play.all_reported()
    await play.ledger.all_came(PATIENCE_S)
    reports = play.ledger.reports
    run.say("cut")
    network.carries(False)
    began = time.monotonic()
    for sender in play.senders:
        sender.give("far0", type="far", server=FAR)
    await play.ledger.at(reports + 1)
    noticed_s = time.monotonic() - began
    play.give(MESSAGES)
    await play.all_reported()
    run.say("carries again")
    network.carries(True)
    began = time.monotonic()
    await play.ledger.all_came(PATIENCE_S)
    back_s = time.monotonic() - began
    await play.finish()
    play.judge()
    run.at_most("until the cut is noticed", noticed_s, NOTICED_S, "s")
    run.notes.append(f"netcut: {back_s:.1f} s after the network is back all had come.")
