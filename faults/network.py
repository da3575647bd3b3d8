"""Network namespaces, and one between them that forwards their packets, or drops them silently."""

from __future__ import annotations

import os
import shutil
import subprocess

from faults.run import Run, Skipped


class Network:
    """Some namespaces, each with one address, by numbers from 0 on; they go with the run.

    Packets of a namespace that is cut off are only dropped: no connection is ended, and nobody is told.
    """

    def __init__(self, run: Run, count: int) -> None:
        """Makes them.

        Raises:
            Skipped: that cannot be done here.
        """
        if os.geteuid() != 0 or shutil.which("ip") is None:
            raise Skipped("network namespaces need root and iproute2")
        self._names = [f"bf{os.getpid()}n{number}" for number in range(count)]
        self._between = f"bf{os.getpid()}b"
        for name in (*self._names, self._between):
            self._ip("netns", "add", name)
            run.ending.callback(subprocess.run, ["ip", "netns", "del", name], check=False)
        for number, name in enumerate(self._names):
            end, middle = "bf", f"bm{number}"
            self._ip("-n", name, "link", "add", end, "type", "veth", "peer", "name", middle, "netns", self._between)
            for where, device, last in ((name, end, 2), (self._between, middle, 1)):
                self._ip("-n", where, "addr", "add", f"10.213.{number}.{last}/24", "dev", device)
                self._ip("-n", where, "link", "set", device, "up")
            self._ip("-n", name, "link", "set", "lo", "up")
            self._ip("-n", name, "route", "add", "default", "via", f"10.213.{number}.1")
        self._run([*self._inside(self._between), "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"])
        self._rules: dict[int, list[tuple[str, ...]]] = {}

    def host(self, number: int) -> str:
        """Returns the address of a namespace."""
        return f"10.213.{number}.2"

    def inside(self, number: int) -> list[str]:
        """Returns the command that runs another one in a namespace."""
        return self._inside(self._names[number])

    def cut(self, number: int, *, out: bool = True, into: bool = True) -> None:
        """Drops the packets that a namespace sends (``out``), and those that are sent to it (``into``)."""
        rules = self._rules.setdefault(number, [])
        if out:
            rules.append(("iif", f"bm{number}", "blackhole"))
        if into:
            rules.append(("to", f"10.213.{number}.0/24", "blackhole"))
        for rule in rules:
            self._ip("-n", self._between, "rule", "add", *rule)

    def heal(self, number: int) -> None:
        """Forwards a namespace's packets again."""
        for rule in self._rules.pop(number, ()):
            self._ip("-n", self._between, "rule", "del", *rule)

    def _inside(self, name: str) -> list[str]:
        return ["ip", "netns", "exec", name]

    def _ip(self, *arguments: str) -> None:
        self._run(["ip", *arguments])

    def _run(self, command: list[str]) -> None:
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode:
            raise Skipped(f"{' '.join(command)}: {result.stderr.strip()}")
