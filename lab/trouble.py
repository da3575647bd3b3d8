"""What goes wrong in a play: the faults of its plan, each at its time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextvars import Context
from dataclasses import replace

from bester.lab.machine import Machine
from bester.lab.network import Link
from bester.lab.process import Process
from lab.clustertrouble import CLUSTER_KINDS, ClusterTrouble
from lab.hands import HandPlayer
from lab.keeper import Keeper
from lab.plan import Fault
from lab.sessions import SessionPlayer
from lab.sites import SitePlayer
from lab.stage import Stage


class Trouble:
    """Carries out faults, and heals all of them."""

    def __init__(
        self, stage: Stage, sites: Sequence[SitePlayer], hands: Sequence[HandPlayer], sessions: Sequence[SessionPlayer]
    ) -> None:
        self._stage = stage
        self._world = stage.world
        self._sites = sites
        self._keepers = [keeper for site in sites for keeper in site.keepers]
        self._hands = hands
        self._sessions = sessions
        self._deaths: dict[tuple[str, str], tuple[int, float]] = {}
        """By machine and fault point: at which arrival its server dies, and for how long."""
        self.points: Counter[str] = Counter()
        """Arrivals at fault points."""
        self.happened: list[tuple[float, str]] = []
        """The kinds of what happened, with their times."""
        self.struck: set[int] = set()
        """The servers that were killed, or whose connections or disks were troubled."""
        self.disturbed: list[tuple[float, float]] = []
        """From when until when faults of :data:`DISTURBING` kinds may have changed the order."""
        self._of_clusters = ClusterTrouble(stage, sites, sessions, self.struck)
        self._kinds: dict[str, Callable[[Fault], None]] = {
            "kill": self._kill,
            "powerCut": self._power_cut,
            "stop": self._stop,
            "pause": self._pause,
            "reload": self._reload,
            "dieAt": self._die_at,
            "killHand": self._kill_hand,
            "pauseHand": self._pause_hand,
            "detachHand": self._detach_hand,
            "killSession": self._kill_session,
            "pauseSession": self._pause_session,
            "partition": self._partition,
            "deafen": self._deafen,
            "cutSession": self._cut_session,
            "reset": self._reset,
            "resetSession": self._reset_session,
            "slowLink": self._slow_link,
            "syncFails": self._sync_fails,
            "writeFails": self._write_fails,
            "diskFull": self._disk_full,
            "slowDisk": self._slow_disk,
            "clock": self._clock,
            **self._of_clusters.kinds,
        }
        stage.kill_hand = self._kill_hand_for
        stage.world.on_fault_point = self._at_point

    def plan(self, faults: Sequence[Fault]) -> None:
        """Sets timers for faults; called at the beginning of the play."""
        for fault in faults:
            self._later(fault.at, self._happen, fault)

    def _later(self, wait_s: float, call: Callable[..., None], *args: object) -> None:
        self._world.loop.call_later(wait_s, call, *args, context=Context())

    def _happen(self, fault: Fault) -> None:
        if not self._stage.settling:
            self._stage.note(f"fault {fault.kind} {fault.who} {fault.other} {fault.for_s:g}")
            self.happened.append((self._stage.now, fault.kind))
            if fault.kind in DISTURBING:
                lasts_s = fault.for_s if fault.kind in LASTING else 0.0
                self.disturbed.append((self._stage.now, self._stage.now + lasts_s))
            self._kinds[fault.kind](fault)

    def heal(self) -> None:
        """Ends everything that is wrong, and lets everybody come back."""
        world = self._world
        if self.disturbed:
            self.disturbed.append((self._stage.now, self._stage.now))
        self._deaths.clear()
        world.network.heal()
        world.network.clear_links()
        self._of_clusters.heal()
        for keeper in self._keepers:
            disk = keeper.lab.machine.disk
            disk.heal()
            keeper.up()
            self._resume(keeper.lab.process)
        for hand in self._hands:
            self._resume(hand.process)
            hand.start()
        for session in self._sessions:
            self._resume(session.process)
            session.start()

    def _resume(self, process: Process | None) -> None:
        if process is not None and process.paused:
            self._world.loop.resume(process)

    # -- servers -------------------------------------------------------------------------------------------------

    def _keeper(self, fault: Fault) -> Keeper:
        site = self._site(fault.who)
        self.struck.add(site.index)
        return site.keepers[fault.node % len(site.keepers)]

    def _site(self, index: int) -> SitePlayer:
        return self._sites[index % len(self._sites)]

    def _kill(self, fault: Fault) -> None:
        self._keeper(fault).kill(fault.for_s)

    def _power_cut(self, fault: Fault) -> None:
        keeper = self._keeper(fault)
        keeper.cut_power(fault.for_s)
        self._later(fault.for_s, self._power_back, keeper)

    def _power_back(self, keeper: Keeper) -> None:
        if not keeper.lab.machine.on:
            keeper.lab.machine.switch_on()
        for hand in self._hands:
            if hand.machine is keeper.lab.machine:
                hand.start()

    def _stop(self, fault: Fault) -> None:
        self._keeper(fault).ask_to_stop(fault.for_s)

    def _pause(self, fault: Fault) -> None:
        self._pause_process(self._keeper(fault).lab.process, fault.for_s)

    def _pause_process(self, process: Process | None, for_s: float) -> None:
        if process is not None and process.alive and not process.paused:
            process.paused = True
            self._later(for_s, self._resume, process)

    def _reload(self, fault: Fault) -> None:
        lab = self._keeper(fault).lab
        if lab.server is not None and lab.process is not None and lab.running:
            lab.write_configuration()
            lab.process.enter().run(lab.server.reload_soon)

    def _die_at(self, fault: Fault) -> None:
        site = self._site(fault.who)
        keeper = site.keepers[fault.node % len(site.keepers)]
        self._deaths[keeper.lab.machine.name, fault.point] = (max(fault.count, 1), fault.for_s)

    def _at_point(self, process: Process, point: str) -> None:
        self.points[point] += 1
        for keeper in self._keepers:
            if keeper.lab.process is process:
                key = keeper.lab.machine.name, point
                left, for_s = self._deaths.get(key, (0, 0.0))
                if left > 1:
                    self._deaths[key] = left - 1, for_s
                elif left == 1:
                    del self._deaths[key]
                    self._stage.note(f"{process} dies at {point}")
                    self.happened.append((self._stage.now, f"at {point}"))
                    self.disturbed.append((self._stage.now, self._stage.now))
                    self.struck.add(keeper.index)
                    keeper.kill(for_s)

    # -- handlers and sessions -----------------------------------------------------------------------------------

    def _kill_hand(self, fault: Fault) -> None:
        if self._hands:
            self._kill_hand_for(fault.who % len(self._hands), fault.for_s)

    def _kill_hand_for(self, index: int, for_s: float) -> None:
        self._hands[index].kill()
        self._later(for_s, self._hands[index].start)

    def _pause_hand(self, fault: Fault) -> None:
        if self._hands:
            self._pause_process(self._hands[fault.who % len(self._hands)].process, fault.for_s)

    def _detach_hand(self, fault: Fault) -> None:
        """Lets a handler ask for no more requests, and die a little later, with what it has outstanding."""
        if self._hands:
            index = fault.who % len(self._hands)
            self._hands[index].detach()
            self._later(min(fault.for_s, 1.0), self._kill_hand_for, index, 0.5)

    def _session(self, fault: Fault) -> SessionPlayer | None:
        return self._sessions[fault.who % len(self._sessions)] if self._sessions else None

    def _kill_session(self, fault: Fault) -> None:
        session = self._session(fault)
        if session is not None:
            session.kill()
            self._later(fault.for_s, session.start)

    def _pause_session(self, fault: Fault) -> None:
        session = self._session(fault)
        if session is not None:
            self._pause_process(session.process, fault.for_s)

    # -- the network ---------------------------------------------------------------------------------------------

    def _partition(self, fault: Fault) -> None:
        """Cuts off the servers from ``who`` to ``other`` and their sessions from the rest."""
        inside = set(range(fault.who, max(fault.who, fault.other) + 1))
        machines: tuple[list[Machine], list[Machine]] = [], []
        for keeper in self._keepers:
            machines[keeper.index in inside].append(keeper.lab.machine)
        self.struck.update(range(len(self._sites)))
        self._world.network.cut(*machines)
        self._later(fault.for_s, self._mend, *machines)

    def _mend(self, some: list[Machine], others: list[Machine]) -> None:
        for one in some:
            for other in others:
                self._world.network.unblock(one, other)
                self._world.network.unblock(other, one)

    def _deafen(self, fault: Fault) -> None:
        """Nothing comes from one server to another; the other direction stays open."""
        for one, other in self._between(fault):
            self._world.network.block(one, other)
            self._later(fault.for_s, self._world.network.unblock, one, other)

    def _between(self, fault: Fault) -> list[tuple[Machine, Machine]]:
        """Returns the machines of two servers, in pairs; none, if they are one."""
        one, other = self._site(fault.who), self._site(fault.other)
        if one is other:
            return []
        self.struck.update((one.index, other.index))
        return [(here, there) for here in one.machines for there in other.machines]

    def _cut_session(self, fault: Fault) -> None:
        session = self._session(fault)
        if session is not None:
            session.lost += 1
            machines = [session.machine], self._site(session.server).machines
            self._world.network.cut(*machines)
            self._later(fault.for_s, self._mend, *machines)

    def _reset(self, fault: Fault) -> None:
        for one, other in self._between(fault):
            self._world.network.reset(one, other)

    def _reset_session(self, fault: Fault) -> None:
        session = self._session(fault)
        if session is not None:
            session.lost += 1
            for machine in self._site(session.server).machines:
                self._world.network.reset(session.machine, machine)

    def _slow_link(self, fault: Fault) -> None:
        network = self._world.network
        pairs = self._between(fault)
        if not pairs and (session := self._session(fault)) is not None:
            pairs = [(session.machine, machine) for machine in self._site(fault.who).machines]
        # The jitter of many small pieces adds up.
        jitter_s = min(fault.amount / 2, 0.002) if fault.count else fault.amount / 2
        for one, other in pairs:
            network.set_link(one, other, Link(fault.amount, jitter_s, fault.count or 1 << 20))
            self._later(fault.for_s, network.set_link, one, other, replace(network.link))

    # -- disks and clocks ----------------------------------------------------------------------------------------

    def _sync_fails(self, fault: Fault) -> None:
        self._keeper(fault).lab.machine.disk.fail_sync(max(fault.count, 1))

    def _write_fails(self, fault: Fault) -> None:
        self._keeper(fault).lab.machine.disk.fail_write(max(fault.count, 1))

    def _disk_full(self, fault: Fault) -> None:
        disk = self._keeper(fault).lab.machine.disk
        disk.capacity = disk.used() + fault.count
        self._later(fault.for_s, setattr, disk, "capacity", None)

    def _slow_disk(self, fault: Fault) -> None:
        disk = self._keeper(fault).lab.machine.disk
        disk.sync_s = fault.amount
        self._later(fault.for_s, setattr, disk, "sync_s", 0.0)

    def _clock(self, fault: Fault) -> None:
        self._keeper(fault).lab.machine.skew_s += fault.amount


HAND_KINDS = ("killHand", "pauseHand", "detachHand")
SESSION_KINDS = ("killSession", "pauseSession", "cutSession", "resetSession")
SERVER_KINDS = (
    "kill",
    "powerCut",
    "stop",
    "pause",
    "reload",
    "dieAt",
    "partition",
    "deafen",
    "reset",
    "slowLink",
    "syncFails",
    "writeFails",
    "diskFull",
    "slowDisk",
    "clock",
)
KINDS = (*SERVER_KINDS, *HAND_KINDS, *SESSION_KINDS)
"""What is drawn for all servers; more befalls clusters."""
ALL_KINDS = (*KINDS, *CLUSTER_KINDS)
DISTURBING = ("kill", "powerCut", "stop", "pause", *CLUSTER_KINDS)
"""The kinds that may change the order of what is under way in a cluster."""
LASTING = ("pause", "cutPlace", "loseNats", "lagNats", "jetStreamAway", "leaderAway", "fates")
"""The kinds of them that do as long as they last, and not at their beginning alone."""
