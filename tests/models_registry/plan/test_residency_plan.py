"""Decisions of the plan at one moment."""

import itertools
from dataclasses import dataclass, replace

import pytest

from models_registry.plan.facts import NodeView, Placement, ReplicaView, Rules, VersionView
from models_registry.plan.lifecycle import (
    CALM_SECONDS,
    CALM_UNUSED_SECONDS,
    MAX_BACKOFF_SECONDS,
    START_TIMEOUT_SECONDS,
    Action,
    backoff_seconds,
    may_start,
    next_action,
)
from models_registry.plan.plan import Plan, Start, plan
from models_registry.plan.retirement import Retire
from models_registry.plan.room import Room

LEASE_SECONDS = 5.0
RUNNING = ("loading", "ready", "draining")
STATES = ("stopped", "starting", *RUNNING, "failed")
VIEW = ReplicaView(1, "a", "local")
RULES = Rules(LEASE_SECONDS, minimum_dwell_seconds=5, maximum_wait_seconds=15)
AGES = (
    *(0.0, LEASE_SECONDS, START_TIMEOUT_SECONDS, CALM_SECONDS, MAX_BACKOFF_SECONDS),
    CALM_UNUSED_SECONDS,
    *(RULES.drain_patience_seconds, RULES.load_stall_seconds, RULES.drain_timeout_seconds),
)


def decide(view: ReplicaView, *, node_is_alive: bool = True) -> Action | str | None:
    """The action that is due for one replica, or its start."""
    if may_start(view):
        return "start"
    return next_action(view, RULES, node_is_alive)


def expected(view: ReplicaView) -> Action | str | None:
    """The rules in another form: the first line that fits."""
    running = view.state in RUNNING
    gone = view.is_dead or view.state_age_seconds >= LEASE_SECONDS
    rested = view.state_age_seconds >= backoff_seconds(view.crashes)
    calm_seconds = CALM_SECONDS if view.has_served else CALM_UNUSED_SECONDS
    calm = view.state == "ready" and view.state_age_seconds >= calm_seconds
    late = view.state_age_seconds >= START_TIMEOUT_SECONDS
    stalled = view.state_age_seconds >= RULES.load_stall_seconds
    overdue = view.state_age_seconds >= RULES.drain_timeout_seconds
    hangs = view.holds_memory and view.state in ("stopped", "failed")
    lines: list[tuple[bool, Action | str | None]] = [
        (hangs and view.state_age_seconds >= RULES.drain_patience_seconds, Action.KILL),
        (hangs, None),
        (running and not view.is_alive and gone, Action.NOTE_DEATH),
        (running and not view.is_alive, None),
        (view.state == "loading" and stalled, Action.FAIL_LOAD),
        (view.state == "draining" and overdue, Action.KILL),
        (running and not view.wanted, Action.DRAIN),
        (running and calm and view.crashes > 0, Action.FORGIVE),
        (running, None),
        (not view.wanted and view.state == "stopped", None),
        (not view.wanted and view.state == "failed" and bool(view.failure), None),
        (not view.wanted, Action.NOTE_STOPPED),
        (view.state == "starting" and view.is_alive, None),
        (view.state == "starting" and late, Action.ANNOUNCE_AGAIN),
        (view.state == "starting" or not view.file_ready, None),
        (view.state == "stopped" or rested, "start"),
    ]
    return next((action for fits, action in lines if fits), None)


@pytest.mark.parametrize("state", STATES)
def test_lifecycle_of_every_combination(state: str) -> None:
    combinations = itertools.product(
        *((True, False), AGES, (True, False), (True, False), (True, False), (0, 1, 3)),
        *((True, False), (True, False), ("", "It dies.")),
    )
    for row in combinations:
        wanted, age, is_alive, is_dead, holds_memory, crashes, file_ready, served, failure = row
        if is_dead and (is_alive or holds_memory):
            continue  # a host known to have ended does not count as alive
        view = replace(
            VIEW,
            wanted=wanted,
            state=state,
            state_age_seconds=age,
            is_alive=is_alive,
            is_dead=is_dead,
            holds_memory=holds_memory,
            crashes=crashes,
            file_ready=file_ready,
            has_served=served,
            failure=failure,
        )
        assert decide(view) == expected(view), view


@pytest.mark.parametrize(
    ("changes", "action"),
    [
        ({}, "start"),
        ({"file_ready": False}, None),
        ({"wanted": False}, None),
        ({"holds_memory": True}, None),
        ({"state": "starting", "state_age_seconds": 9.9}, None),
        ({"state": "starting", "state_age_seconds": 10.0}, Action.ANNOUNCE_AGAIN),
        ({"state": "starting", "wanted": False}, Action.NOTE_STOPPED),
        ({"state": "loading", "state_age_seconds": 4.9}, None),
        ({"state": "loading", "is_dead": True}, Action.NOTE_DEATH),
        ({"state": "starting", "is_alive": True, "is_serving": True}, Action.NOTE_READY),
        ({"state": "loading", "is_alive": True, "is_serving": True}, Action.NOTE_READY),
        (
            {"state": "starting", "is_alive": True, "is_serving": True, "wanted": False},
            Action.NOTE_READY,
        ),
        ({"state": "loading", "is_dead": True, "is_serving": True}, Action.NOTE_DEATH),
        ({"state": "draining", "is_alive": True, "is_serving": True}, None),
        ({"state": "ready", "is_alive": True, "state_age_seconds": 1e6}, None),
        ({"state": "ready", "state_age_seconds": 5.0}, Action.NOTE_DEATH),
        ({"state": "ready", "is_alive": True, "wanted": False}, Action.DRAIN),
        ({"state": "ready", "is_alive": True, "crashes": 1, "state_age_seconds": 9.0}, None),
        ({"state": "ready", "is_alive": True, "crashes": 1, "state_age_seconds": 599.0}, None),
        (
            {"state": "ready", "is_alive": True, "crashes": 1, "state_age_seconds": 600.0},
            Action.FORGIVE,
        ),
        (
            {
                "state": "ready",
                "is_alive": True,
                "crashes": 1,
                "state_age_seconds": 10.0,
                "has_served": True,
            },
            Action.FORGIVE,
        ),
        ({"state": "draining", "is_alive": True}, None),
        ({"state": "draining", "is_alive": True, "state_age_seconds": 719.0}, None),
        ({"state": "draining", "is_alive": True, "state_age_seconds": 720.0}, Action.KILL),
        ({"state": "loading", "is_alive": True, "state_age_seconds": 299.0}, None),
        ({"state": "loading", "is_alive": True, "state_age_seconds": 300.0}, Action.FAIL_LOAD),
        ({"state": "failed", "holds_memory": True, "wanted": False}, None),
        ({"state": "failed", "holds_memory": True, "state_age_seconds": 10.0}, Action.KILL),
        ({"state": "failed", "crashes": 1}, "start"),
        ({"state": "failed", "crashes": 1, "load_failed": True}, None),
        ({"state": "failed", "crashes": 2, "state_age_seconds": 1.9}, None),
        ({"state": "failed", "crashes": 2, "state_age_seconds": 2.0}, "start"),
        ({"state": "failed", "crashes": 3, "state_age_seconds": 3.9}, None),
        ({"state": "failed", "crashes": 2, "wanted": False}, Action.NOTE_STOPPED),
        ({"state": "failed", "crashes": 3, "wanted": False, "failure": "It dies."}, None),
    ],
)
def test_lifecycle_of_a_case(changes: dict[str, object], action: Action | str | None) -> None:
    assert decide(replace(VIEW, **changes)) == action


def test_a_start_on_a_node_that_is_gone_is_taken_back_when_it_is_late() -> None:
    view = replace(VIEW, state="starting", state_age_seconds=START_TIMEOUT_SECONDS - 0.1)
    assert decide(view, node_is_alive=False) is None
    view = replace(view, state_age_seconds=START_TIMEOUT_SECONDS)
    assert decide(view, node_is_alive=False) is Action.NOTE_STOPPED


@pytest.mark.parametrize(
    ("crashes", "seconds"),
    [(0, 0), (1, 0), (2, 2), (3, 4), (4, 8), (9, 256), (10, 300), (9999, 300)],
)
def test_backoff(crashes: int, seconds: float) -> None:
    assert backoff_seconds(crashes) == seconds
    assert seconds <= MAX_BACKOFF_SECONDS


@dataclass
class _Life:
    """A replica driven by its own lifecycle, a second at a time."""

    view: ReplicaView
    now: float = 0.0
    since: float = 0.0

    def enter(self, state: str, **changes: bool | int) -> None:
        """Be in another state from now on."""
        self.since = self.now
        self.view = replace(self.view, state=state, **changes)

    def look(self) -> Action | str | None:
        """Return the action that is due now, and let a second pass."""
        action = decide(replace(self.view, state_age_seconds=self.now - self.since))
        self.now += 1
        return action


def test_a_replica_that_dies_at_once_is_started_ever_more_rarely() -> None:
    life = _Life(VIEW)
    starts = []
    while life.now < 4000:
        match life.look():
            case "start":
                starts.append(life.now)
                life.enter("loading", is_dead=True)
            case Action.NOTE_DEATH:
                life.enter("failed", crashes=life.view.crashes + 1, is_dead=False)
    pauses = [later - earlier for earlier, later in itertools.pairwise(starts)]
    assert pauses == sorted(pauses)
    assert pauses[0] <= 2  # the first death costs no pause
    assert MAX_BACKOFF_SECONDS <= pauses[-1] <= MAX_BACKOFF_SECONDS + 2


def test_a_replica_from_start_to_unload() -> None:
    life = _Life(replace(VIEW, file_ready=False))
    assert life.look() is None
    life.view = replace(life.view, file_ready=True)
    assert life.look() == "start"
    life.enter("starting")
    announcements = sum(life.look() is Action.ANNOUNCE_AGAIN for _ in range(12))
    assert announcements == 2  # the row's age is not reset here: at 10 s and at 11 s
    life.enter("loading", is_alive=True)
    assert {life.look() for _ in range(20)} == {None}
    life.enter("ready")
    assert {life.look() for _ in range(60)} == {None}
    life.view = replace(life.view, wanted=False)
    assert life.look() is Action.DRAIN
    life.enter("draining")
    assert life.look() is Action.DRAIN
    life.enter("stopped", is_alive=False)
    assert {life.look() for _ in range(20)} == {None}


def test_a_replica_that_dies_while_it_drains_is_not_started_again() -> None:
    life = _Life(replace(VIEW, wanted=False, state="draining", is_dead=True))
    assert life.look() is Action.NOTE_DEATH
    life.enter("failed", crashes=1, is_dead=False)
    assert life.look() is Action.NOTE_STOPPED
    life.enter("stopped")
    assert life.look() is None


def version(key: str, size: int = 100, nodes: str = "local", **fields: object) -> VersionView:
    """A version that needs so many bytes on any of the nodes."""
    places = tuple(Placement(node, "cpu", {"cpu": size}) for node in nodes.split())
    return replace(VersionView(key, places, idle_seconds=1000.0), **fields)


def ready(id_: int, key: str, size: int = 100, **fields: object) -> ReplicaView:
    """A replica that has served for long and has nothing to do."""
    view = ReplicaView(id_, key, "local", {"cpu": size}, state="ready", is_alive=True)
    return replace(view, **({"state_age_seconds": 1000.0} | fields))


def asked(key: str, size: int = 100, waited: float = 1.0, **fields: object) -> VersionView:
    """A version that requests wait for."""
    wait = {"queued": 1, "oldest_wait_seconds": waited, "urgency_seconds": waited}
    return version(key, size, **(wait | {"idle_seconds": 0.0} | fields))


def decided(
    versions: list[VersionView], replicas: list[ReplicaView], budget: int = 200, *more: NodeView
) -> Plan:
    """The plan for one node, and others if given."""
    return plan([NodeView("local", {"cpu": budget}, 8), *more], versions, replicas, RULES)


def test_plan_promises_memory_that_is_coming_free_to_the_longest_wait() -> None:
    leaving = ready(1, "a", state="draining", wanted=False, state_age_seconds=1.0)
    drawn = decided(
        [version("a"), version("b"), asked("c", waited=9), asked("d")], [leaving, ready(2, "b")]
    )
    assert drawn.starts == []
    assert drawn.retirements == [Retire(2, "Evicted to make room for d.")]


def test_plan_of_a_starved_version_waits_for_a_long_drain_and_leaves_other_devices_alone() -> None:
    machine = NodeView("local", {"cpu": 100, "cuda:0": 100}, 8)
    leaving = ready(1, "a", state="draining", wanted=False)
    on_gpu = Placement("local", "cuda:0", {"cuda:0": 100})
    versions = [version("a"), asked("b", waited=20), asked("g", placements=(on_gpu,))]
    drawn = plan([machine], versions, [leaving], RULES)
    assert [start.version for start in drawn.starts] == ["g"]


def test_room_reserves_memory_that_comes_late_once() -> None:
    leaving = ready(1, "a", state="draining", wanted=False)
    room = Room([NodeView("local", {"cpu": 150}, 8)], [version("a")], [leaving], RULES)
    place = Placement("local", "cpu", {"cpu": 100})
    assert not room.fits_soon(place)
    assert room.fits_late(place)
    room.reserve(place)
    assert not room.fits_late(place)


def test_copies_of_a_version_are_never_evicted_for_another_copy() -> None:
    node, a, b = NodeView("local", {"cpu": 150}, 8), version("a"), version("b")
    room = Room([node], [a, b], [ready(1, "a")], RULES)
    assert room.evictable("local", a) == []
    assert not room.fits_beside_kept(a.placements[0], a)
    assert [one.id for one in room.evictable("local", b)] == [1]
    assert room.fits_beside_kept(b.placements[0], b)


def test_plan_of_a_device_that_is_gone_places_nothing_there() -> None:
    """A replica may still hold memory of a GPU that its node no longer shows."""
    on_gpu = Placement("local", "cuda:0", {"cuda:0": 50})
    held = ready(1, "a", needs={"cuda:0": 100}, on_demand=True)
    drawn = decided([version("a"), asked("b", placements=(on_gpu,))], [held])
    assert (drawn.starts, drawn.retirements) == ([], [])
    assert drawn.reasons["b"].text == "local has no cuda:0."


def test_plan_gives_no_reason_for_requests_that_a_copy_will_serve() -> None:
    loading = ready(1, "a", state="loading")
    assert decided([asked("a", preload_workers=2)], [loading], budget=150).reasons == {}


def test_plan_evicts_no_more_than_it_needs() -> None:
    drawn = decided(
        [version("small", 50, idle_seconds=900), version("large", idle_seconds=10), asked("c")],
        [ready(1, "small", 50), ready(2, "large", 100)],
        budget=150,
    )
    assert [retired.replica_id for retired in drawn.retirements] == [2]


def test_plan_prefers_the_node_where_no_busy_replica_is_evicted() -> None:
    other = NodeView("other", {"cpu": 100}, 8)
    drawn = decided(
        [version("idle"), version("busy"), asked("c", waited=20, nodes="local other")],
        [ready(1, "idle"), ready(2, "busy", node="other", busy=3)],
        100,
        other,
    )
    assert [retired.replica_id for retired in drawn.retirements] == [1]


def test_plan_evicts_the_busy_replica_of_the_lowest_priority_first() -> None:
    drawn = decided(
        [asked("high", priority=3), asked("low", priority=1), asked("c", waited=20)],
        [ready(1, "high", busy=1, state_age_seconds=2000.0), ready(2, "low", busy=1)],
    )
    assert [retired.replica_id for retired in drawn.retirements] == [2]


def test_plan_evicts_the_busy_replica_that_has_served_longest_first() -> None:
    drawn = decided(
        [version("a"), version("b"), asked("c", waited=20)],
        [ready(1, "a", busy=1), ready(2, "b", busy=1, state_age_seconds=2000.0)],
    )
    assert [retired.replica_id for retired in drawn.retirements] == [2]


@pytest.mark.parametrize(("measured", "is_final"), [(700, False), (750, False), (751, True)])
def test_plan_refuses_no_request_because_measurements_vary(measured: int, is_final: bool) -> None:
    machine = NodeView("local", {"cpu": 1000, "cuda:0": 5000}, 8)
    on_gpu = Placement("local", "cuda:0", {"cpu": 300, "cuda:0": 4000})
    versions = [version("p", 700, pinned=True), asked("g", placements=(on_gpu,))]
    drawn = plan([machine], versions, [ready(1, "p", measured)], RULES)
    reason = drawn.reasons["g"]
    assert reason.is_final is is_final
    waits = reason.text.endswith("Waiting: at most 5 % of the memory budget is missing.")
    assert waits == (700 < measured <= 750)


def test_plan_refuses_a_version_that_a_silent_node_could_not_take_either() -> None:
    silent = NodeView("local", {"cpu": 1000}, 8, is_alive=False, silence_seconds=1.0)
    for size, is_final in ((1001, True), (1000, False)):
        reason = plan([silent], [asked("a", size)], [], RULES).reasons["a"]
        assert reason.is_final is is_final
        assert ("may use 1000 bytes" in reason.text) is is_final
        assert reason.text.startswith("Waiting for local") is not is_final
    held = ready(1, "p", 800, is_alive=False)
    reason = plan([silent], [version("p", pinned=True), asked("a", 500)], [held], RULES).reasons[
        "a"
    ]
    assert reason.is_final
    assert "200 bytes of 1000 bytes are free, 800 bytes held by models that stay (p)" in reason.text


def test_plan_starts_in_the_row_that_is_there() -> None:
    drawn = decided([version("a")], [ReplicaView(7, "a", "local")])
    assert drawn.starts == [Start("a", "local", "cpu", {"cpu": 100}, 7, on_demand=True)]


def test_plan_starts_a_requested_replica_elsewhere_when_its_node_has_no_room() -> None:
    other = NodeView("other", {"cpu": 100}, 8)
    drawn = decided(
        [asked("a", nodes="local other"), version("pin", pinned=True)],
        [ReplicaView(7, "a", "local"), ready(1, "pin")],
        100,
        other,
    )
    assert drawn.starts == [Start("a", "other", "cpu", {"cpu": 100}, None, on_demand=True)]


def test_plan_counts_memory_of_a_process_that_should_be_gone() -> None:
    stuck = ReplicaView(1, "a", "local", {"cpu": 150}, False, state="failed")
    assert decided([version("a"), asked("b")], [stuck]).starts != []
    drawn = decided([version("a"), asked("b")], [replace(stuck, holds_memory=True)])
    assert drawn.starts == []


def test_plan_starts_no_copy_where_a_cleared_one_hangs() -> None:
    hung = ReplicaView(1, "a", "local", {"cpu": 50}, False, holds_memory=True)
    drawn = decided([asked("a", 50)], [hung])
    assert drawn.starts == []
    assert drawn.reasons["a"].text == "Waiting: its previous process on local has not ended yet."
    other = NodeView("other", {"cpu": 100}, 8)
    (start,) = decided([asked("a", 50, nodes="local other")], [hung], 200, other).starts
    assert start.node == "other"


def test_plan_starts_no_second_copy_where_the_first_hangs() -> None:
    hung = ReplicaView(
        1, "a", "local", {"cpu": 50}, on_demand=True, state="failed", state_age_seconds=60.0
    )
    hung = replace(hung, load_failed=True, crashes=1, holds_memory=True)
    assert decided([asked("a", 50)], [hung]).starts == []
    other = NodeView("other", {"cpu": 100}, 8)
    (start,) = decided([asked("a", 50, nodes="local other")], [hung], 200, other).starts
    assert start.node == "other"


def test_plan_retires_an_on_demand_row_without_requests() -> None:
    row = ReplicaView(1, "a", "local", on_demand=True, state="failed", crashes=1)
    drawn = decided([version("a")], [row])
    assert drawn.starts == []
    assert drawn.retirements == [Retire(1, "")]
    assert decided([version("a")], [replace(row, on_demand=False)]).starts != []


def test_plan_says_when_a_failing_version_can_be_asked_for_again() -> None:
    row = ReplicaView(
        1, "a", "local", on_demand=True, state="failed", crashes=3, failure="It died.",
        state_age_seconds=1.0,
    )  # fmt: skip
    reason = decided([asked("a")], [row]).reasons["a"]
    assert (reason.text, reason.is_final, reason.retry_after_seconds) == ("It died.", True, 3.0)


def test_plan_of_too_many_hosts_says_so() -> None:
    drawn = plan(
        [NodeView("local", {"cpu": 1000}, 1)],
        [version("a", pinned=True), asked("b")],
        [ready(1, "a")],
        RULES,
    )
    assert drawn.reasons["b"].text == ("local already runs 1 of 1 hosts (INFERENCE_MAX_REPLICAS).")
    assert drawn.reasons["b"].is_final
