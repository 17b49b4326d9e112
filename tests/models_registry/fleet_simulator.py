"""A fleet on a virtual clock: the real plan with simulated hosts and requests.

``Fleet`` carries out plans on plain objects as the controller does on rows and processes, and
checks at every tick that no budget is exceeded.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from models_registry.plan.facts import (
    Bytes,
    NodeView,
    Placement,
    ReplicaView,
    Rules,
    VersionView,
)
from models_registry.plan.lifecycle import CRASH_LOOP, Action
from models_registry.plan.plan import Plan, Start, plan
from models_registry.plan.retirement import Retire

TICK_SECONDS = 0.5
AGEING_SECONDS = 30.0
PICK_UP_SECONDS = 0.5
EXIT_SECONDS = 0.5
MIB = 1 << 20


@dataclass(frozen=True)
class SimModel:
    """A version and how its hosts behave.

    It is foreseen to take ``mib`` of memory, and takes ``held_mib`` if that is set.
    """

    key: str
    mib: int = 100
    load_seconds: float = 2.0
    max_sequences: int = 4
    is_embedding: bool = False
    pinned: bool = False
    preload_workers: int = 0
    keep_alive_seconds: float = math.inf
    device: str = "cpu"
    held_mib: int | None = None

    @property
    def needs(self) -> Bytes:
        """Its bytes by device, as foreseen."""
        return {self.device: self.mib * MIB}

    @property
    def held(self) -> Bytes:
        """Its bytes by device, as measured."""
        return {self.device: (self.mib if self.held_mib is None else self.held_mib) * MIB}

    @property
    def excess(self) -> int:
        """Bytes that it takes beyond what is foreseen."""
        return max(0, self.held[self.device] - self.needs[self.device])


@dataclass(eq=False)
class Request:
    """One request from arrival to its end."""

    number: int
    version: str
    arrived_at: float
    priority: int
    work_seconds: float
    left_seconds: float
    first_claimed_at: float | None = None
    finished_at: float | None = None
    refused: str = ""

    @property
    def score(self) -> float:
        """Its place in the queue: lower goes first."""
        return self.arrived_at - (self.priority - 1) * AGEING_SECONDS

    @property
    def is_over(self) -> bool:
        """Answered or refused."""
        return self.finished_at is not None or bool(self.refused)


@dataclass(eq=False)
class Host:
    """A process: it holds its memory from the moment it begins to load until it has ended."""

    loads_until: float
    running: list[Request] = field(default_factory=list)
    is_serving: bool = False
    has_served: bool = False
    draining: bool = False
    exits_at: float = math.inf


@dataclass(eq=False)
class Row:
    """A replica's row and the process behind it."""

    id: int
    model: SimModel
    node: str
    wanted: bool = True
    on_demand: bool = False
    state: str = "stopped"
    since: float = 0.0
    crashes: int = 0
    failure: str = ""
    load_failed: bool = False
    needs: Bytes = field(default_factory=dict)
    host: Host | None = None
    is_dead: bool = False
    is_hung: bool = False
    is_unkillable: bool = False


@dataclass
class Swap:
    """A replica evicted for another version."""

    at: float
    victim: str
    reason: str
    was_busy: bool


class Fleet:
    """Nodes, models, rows, hosts and requests, a tick at a time.

    Faults are functions of a row. ``fails_to_load`` returns a reason at the end of a load, "" for
    success; ``dies`` is asked at each tick whether the host is killed now, ``loses_ready`` whether
    its row is not told that it is ready, ``ignores_drain`` whether it does not drain when told to.
    """

    def __init__(
        self,
        models: Sequence[SimModel],
        nodes: Sequence[NodeView],
        rules: Rules | None = None,
    ) -> None:
        self.models = {model.key: model for model in models}
        self.nodes = list(nodes)
        self.rules = rules or Rules()
        self.now = 1000.0
        self.rows: list[Row] = []
        self.queues: dict[str, list[Request]] = defaultdict(list)
        self.requests: list[Request] = []
        self.used_at: dict[str, float] = {}
        self.unusable: dict[str, str] = {}
        self.foreseen_at: dict[str, float] = {}
        self.silent_since: dict[str, float] = {}
        self.measured: set[str] = set()
        self.settled_at = 0.0
        self.swaps: list[Swap] = []
        self.starts: list[tuple[float, Start]] = []
        self.kills: list[tuple[float, str]] = []
        self.retired: list[tuple[float, str, str]] = []
        self.overdrawn_since: dict[str, float] = {}
        self.last: Plan = Plan()
        self.fails_to_load: Callable[[Row], str] = lambda _: ""
        self.dies: Callable[[Row], bool] = lambda _: False
        self.loses_ready: Callable[[Row], bool] = lambda _: False
        self.ignores_drain: Callable[[Row], bool] = lambda _: False

    # What people and clients do.

    def load(self, key: str, node: str | None = None) -> Row:
        """An administrator loads a version."""
        return self._row(key, node or self.nodes[0].name)

    def unload(self, key: str) -> None:
        """An administrator unloads a version."""
        for row in self.rows:
            if row.model.key == key:
                row.wanted = False

    def ask(self, key: str, *, priority: int = 2, work_seconds: float = 1.0) -> Request:
        """A request arrives."""
        request = Request(len(self.requests), key, self.now, priority, work_seconds, work_seconds)
        self.requests.append(request)
        self.queues[key].append(request)
        self.used_at[key] = self.now
        return request

    def foresee(self, key: str) -> None:
        """A version is expected to be asked for."""
        self.foreseen_at[key] = self.now

    def cancel(self, request: Request) -> None:
        """A client leaves while its request waits."""
        self.queues[request.version].remove(request)
        request.refused = "cancelled"

    def limit(self, node: NodeView, *, within_seconds: float) -> None:
        """An administrator changes the limits of a node, which hold after a while."""
        self.nodes = [node if one.name == node.name else one for one in self.nodes]
        self.settled_at = self.now + within_seconds

    def lose(self, name: str) -> None:
        """A node's cluster stops in order: its hosts release their requests and end."""
        self.silent_since[name] = self.now
        for row in self.rows:
            if row.node == name and row.host is not None:
                self._kill(row)
                row.is_dead = False
                self._enter(row, "stopped")
        self._see_nodes()

    def regain(self, name: str) -> None:
        """The cluster is there again."""
        del self.silent_since[name]
        self._see_nodes()

    def freeze(self, key: str, *, for_good: bool = False) -> None:
        """The host of a version hangs and keeps its memory; with ``for_good`` no kill ends it."""
        row = self.row(key)
        self._kill(row)
        row.is_dead, row.is_hung, row.is_unkillable = False, True, for_good

    # What can be seen.

    def row(self, key: str) -> Row:
        """The only row of a version."""
        (row,) = [row for row in self.rows if row.model.key == key]
        return row

    def resident(self) -> set[str]:
        """Keys of the versions that are ready."""
        return {row.model.key for row in self.rows if row.state == "ready"}

    def loads_of(self, key: str) -> int:
        """How often a version was started."""
        return sum(start.version == key for _, start in self.starts)

    @property
    def waits(self) -> list[float]:
        """How long each request has waited, or waits still."""
        return [
            (self.now if one.first_claimed_at is None else one.first_claimed_at) - one.arrived_at
            for one in self.requests
            if not one.refused
        ]

    # Time.

    def run(self, seconds: float) -> None:
        """Let time pass."""
        until = self.now + seconds
        while self.now < until:
            self.tick()

    def run_until(self, condition: Callable[[], bool], limit_seconds: float = 300.0) -> float:
        """Let time pass until ``condition`` holds; returns the seconds that took."""
        began = self.now
        while not condition():
            assert self.now - began < limit_seconds, self.last.reasons
            self.tick()
        return self.now - began

    def tick(self) -> None:
        """The hosts go on, then the controller looks and acts."""
        self.now += TICK_SECONDS
        self._see_nodes()
        for row in self.rows:
            self._advance(row)
        self._control()
        self.check()

    def check(self) -> None:
        """Check that no node exceeds its budgets.

        Nothing is loaded while a node is over its budgets, so beyond them it holds at most what
        the loads that may go on at once take more than was foreseen.
        """
        excess = self.rules.max_loads * max(model.excess for model in self.models.values())
        held: dict[tuple[str, str], int] = defaultdict(int)
        hosts: dict[str, int] = defaultdict(int)
        for row in self.rows:
            if row.host is None and row.state != "starting" and not row.is_hung:
                continue
            hosts[row.node] += 1
            for device, count in row.model.held.items():
                held[row.node, device] += count
        for node in self.nodes:
            if self.now < self.settled_at:
                continue
            assert hosts[node.name] <= node.max_replicas, (self.now, hosts)
            for device, budget in node.budgets.items():
                assert held[node.name, device] <= budget + excess, (self.now, node, dict(held))

    def _see_nodes(self) -> None:
        for place, node in enumerate(self.nodes):
            since = self.silent_since.get(node.name)
            if since is not None:
                silence = self.now - since
                self.nodes[place] = replace(node, is_alive=False, silence_seconds=silence)
            elif node.silence_seconds < math.inf:
                self.nodes[place] = replace(node, is_alive=True, silence_seconds=math.inf)

    # The controller.

    def _control(self) -> None:
        versions = {view.key: view for view in map(self._version_view, self.models.values())}
        views = {row.id: self._replica_view(row) for row in self.rows}
        since = self.overdrawn_since
        nodes = [
            replace(node, overdrawn_seconds=self.now - since.get(node.name, self.now))
            for node in self.nodes
        ]
        drawn = plan(nodes, versions.values(), list(views.values()), self.rules)
        self.overdrawn_since = {name: since.get(name, self.now) for name in drawn.overdrawn}
        self.last = drawn
        for replica_id, action in drawn.actions:
            self._act(self._by_id(replica_id), action)
        for retired in drawn.retirements:
            self._retire(retired, versions, views[retired.replica_id])
        for start in drawn.starts:
            self._start(start)
        for key, reason in drawn.reasons.items():
            if not reason.is_final:
                continue
            queue = self.queues[key]
            for request in list(queue):
                if not (reason.spares_begun and request.first_claimed_at is not None):
                    queue.remove(request)
                    request.refused = reason.text

    def _retire(self, retired: Retire, versions: dict[str, VersionView], view: ReplicaView) -> None:
        row = self._by_id(retired.replica_id)
        row.wanted = False
        self.retired.append((self.now, view.version, retired.reason))
        if "exceeds its budget" in retired.reason:
            assert not row.model.pinned, retired
            assert view.state_age_seconds >= self.rules.minimum_dwell_seconds, retired
        if "make room" not in retired.reason:
            return
        was_busy = not view.is_idle(versions[view.version])
        self.swaps.append(Swap(self.now, view.version, retired.reason, was_busy))
        assert not row.model.pinned, retired
        assert view.state_age_seconds >= self.rules.minimum_dwell_seconds, retired
        wanting = retired.reason.removeprefix("Evicted to make room for ").rstrip(".")
        if row.model.is_embedding and (row.model.preload_workers or not row.on_demand):
            assert self.models[wanting].is_embedding, retired
        if was_busy:
            rows = [one for one in self.rows if one.model.key == wanting]
            waits = [self.now - one.since for one in rows if one.wanted]
            waits.append(versions[wanting].oldest_wait_seconds)
            assert max(waits) >= self.rules.maximum_wait_seconds, retired

    def _start(self, start: Start) -> None:
        self.starts.append((self.now, start))
        if start.replica_id is None:
            row = self._row(start.version, start.node)
            row.on_demand = start.on_demand
        else:
            row = self._by_id(start.replica_id)
            assert row.host is None
        row.failure, row.load_failed, row.is_dead, row.needs = "", False, False, start.needs
        self._enter(row, "starting")

    def _act(self, row: Row, action: Action) -> None:
        match action:
            case Action.DRAIN if row.host is not None:
                row.host.draining = not self.ignores_drain(row)
                if row.state == "ready":
                    self._enter(row, "draining")
            case Action.KILL:
                self.kills.append((self.now, row.model.key))
                if row.host is not None:
                    self._kill(row)
                row.is_hung = row.is_unkillable
            case Action.FAIL_LOAD:
                row.host, row.load_failed, row.is_hung = None, True, row.is_unkillable
                row.failure = f"{row.model.key} could not be loaded: it stood still."
                row.crashes += 1
                self._enter(row, "failed")
            case Action.NOTE_DEATH:
                row.crashes += 1
                # The node of a silent host kills it.
                row.is_dead, row.is_hung = False, row.is_hung and row.is_unkillable
                if row.crashes >= CRASH_LOOP:
                    row.failure = f"{row.model.key} died {row.crashes} times in a row."
                self._enter(row, "failed")
            case Action.NOTE_STOPPED:
                self._enter(row, "stopped")
            case Action.NOTE_READY:
                self._enter(row, "ready")
            case Action.FORGIVE:
                row.crashes = 0

    def _version_view(self, model: SimModel) -> VersionView:
        queue = self.queues.get(model.key, [])
        return VersionView(
            key=model.key,
            placements=tuple(
                Placement(
                    node.name,
                    model.device,
                    model.held if model.key in self.measured else model.needs,
                )
                for node in self.nodes
                if node.is_alive or self.rules.expects(node)
            ),
            is_embedding=model.is_embedding,
            pinned=model.pinned,
            preload_workers=model.preload_workers,
            foreseen=self.used_at.get(model.key, 0.0) < self.foreseen_at.get(model.key, 0.0),
            keep_alive_seconds=model.keep_alive_seconds,
            queued=len(queue),
            priority=max((one.priority for one in queue), default=0),
            oldest_wait_seconds=max((self.now - one.arrived_at for one in queue), default=0.0),
            urgency_seconds=max((self.now - one.score for one in queue), default=0.0),
            idle_seconds=self.now - self.used_at.get(model.key, 0.0),
            unusable=self.unusable.get(model.key, ""),
        )

    def _replica_view(self, row: Row) -> ReplicaView:
        return ReplicaView(
            id=row.id,
            version=row.model.key,
            node=row.node,
            needs=row.model.held if row.state in ("ready", "draining") else row.needs,
            wanted=row.wanted,
            on_demand=row.on_demand,
            state=row.state,
            state_age_seconds=self.now - row.since,
            is_alive=row.host is not None,
            is_dead=row.is_dead,
            holds_memory=row.host is not None or row.is_hung,
            is_serving=row.host is not None and row.host.is_serving,
            has_served=row.host is not None and row.host.has_served,
            crashes=row.crashes,
            failure=row.failure,
            load_failed=row.load_failed,
            busy=len(row.host.running) if row.host else 0,
        )

    # The hosts.

    def _advance(self, row: Row) -> None:
        if row.host is None:
            waited = self.now - row.since
            alive = next(node.is_alive for node in self.nodes if node.name == row.node)
            if row.state == "starting" and waited >= PICK_UP_SECONDS and alive:
                row.host = Host(self.now + row.model.load_seconds)
                self._enter(row, "loading")
            return
        if self.dies(row):
            self._kill(row)
            return
        if row.host.is_serving:
            self._serve(row, row.host)
        elif self.now >= row.host.loads_until:
            row.failure = self.fails_to_load(row)
            if row.failure:
                row.host, row.load_failed = None, True
                row.crashes += 1
                self._enter(row, "failed")
                return
            row.host.is_serving = True
            self.measured.add(row.model.key)
            if not self.loses_ready(row):
                self._enter(row, "ready")
        elif row.host.loads_until < math.inf:
            row.since = self.now  # its load moves

    def _serve(self, row: Row, host: Host) -> None:
        for request in list(host.running):
            request.left_seconds -= TICK_SECONDS
            self.used_at[row.model.key] = self.now
            if request.left_seconds <= 0:
                request.finished_at = self.now
                host.has_served = True
                host.running.remove(request)
        if host.draining:
            if not host.running and host.exits_at == math.inf:
                host.exits_at = self.now + EXIT_SECONDS
            if self.now >= host.exits_at:
                row.host = None
                self._enter(row, "stopped")
            return
        queue = self.queues.get(row.model.key, [])
        queue.sort(key=lambda one: one.score)
        while queue and len(host.running) < row.model.max_sequences:
            request = queue.pop(0)
            if request.first_claimed_at is None:
                request.first_claimed_at = self.now
            host.running.append(request)

    def _kill(self, row: Row) -> None:
        assert row.host is not None
        self.queues[row.model.key] += row.host.running
        row.host, row.is_dead = None, True

    def _row(self, key: str, node: str) -> Row:
        """A row for one more replica: one that is at rest, or a new one."""
        for row in self.rows:
            at_rest = row.host is None and not row.wanted and row.state in ("stopped", "failed")
            if row.model.key == key and row.node == node and at_rest and not row.is_hung:
                row.wanted, row.on_demand, row.since = True, False, self.now
                return row
        row = Row(len(self.rows) + 1, self.models[key], node, since=self.now)
        self.rows.append(row)
        return row

    def _by_id(self, replica_id: int) -> Row:
        return self.rows[replica_id - 1]

    def _enter(self, row: Row, state: str) -> None:
        row.state, row.since = state, self.now
