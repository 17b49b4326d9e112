"""What the plan does about each replica."""

import itertools
from dataclasses import dataclass, replace

import pytest

from models_registry.residency import (
    CALM_SECONDS,
    MAX_BACKOFF_SECONDS,
    START_TIMEOUT_SECONDS,
    Action,
    ReplicaView,
    backoff_seconds,
    plan,
)

LEASE_SECONDS = 5.0
RUNNING = ("loading", "ready", "draining")
STATES = ("stopped", "starting", *RUNNING, "failed")
AGES = (0.0, LEASE_SECONDS, START_TIMEOUT_SECONDS, CALM_SECONDS)
VIEW = ReplicaView(
    id=1,
    wanted=True,
    state="stopped",
    state_age_seconds=0.0,
    is_alive=False,
    is_dead=False,
    crashes=0,
    file_ready=True,
)


def decide(view: ReplicaView) -> Action | None:
    """The action for one replica."""
    decided = plan([view], LEASE_SECONDS)
    assert len(decided) <= 1
    assert all(replica_id == view.id for replica_id, _ in decided)
    return decided[0][1] if decided else None


def expected(view: ReplicaView) -> Action | None:
    """The rules in another form: the first line that fits."""
    running = view.state in RUNNING
    gone = view.is_dead or view.state_age_seconds >= LEASE_SECONDS
    rested = view.state_age_seconds >= backoff_seconds(view.crashes)
    calm = view.state == "ready" and view.state_age_seconds >= CALM_SECONDS
    lines: list[tuple[bool, Action | None]] = [
        (running and not view.is_alive and gone, Action.NOTE_DEATH),
        (running and not view.is_alive, None),
        (running and not view.wanted, Action.DRAIN),
        (running and calm and view.crashes > 0, Action.FORGIVE),
        (running, None),
        (not view.wanted and view.state == "stopped", None),
        (not view.wanted, Action.NOTE_STOPPED),
        (view.state == "starting" and view.is_alive, None),
        (
            view.state == "starting" and view.state_age_seconds >= START_TIMEOUT_SECONDS,
            Action.ANNOUNCE_AGAIN,
        ),
        (view.state == "starting" or not view.file_ready, None),
        (view.state == "stopped" or rested, Action.START),
    ]
    return next((action for fits, action in lines if fits), None)


@pytest.mark.parametrize("state", STATES)
def test_plan_of_every_combination(state: str) -> None:
    combinations = itertools.product(
        (True, False), AGES, (True, False), (True, False), (0, 1, 3), (True, False)
    )
    for wanted, age, is_alive, is_dead, crashes, file_ready in combinations:
        if is_alive and is_dead:
            continue  # a host known to have ended does not count as alive
        view = ReplicaView(1, wanted, state, age, is_alive, is_dead, crashes, file_ready)
        assert decide(view) == expected(view), view


@pytest.mark.parametrize(
    ("changes", "action"),
    [
        ({}, Action.START),
        ({"file_ready": False}, None),
        ({"wanted": False}, None),
        ({"state": "starting", "state_age_seconds": 9.9}, None),
        ({"state": "starting", "state_age_seconds": 10.0}, Action.ANNOUNCE_AGAIN),
        ({"state": "starting", "wanted": False}, Action.NOTE_STOPPED),
        ({"state": "loading", "state_age_seconds": 4.9}, None),
        ({"state": "loading", "is_dead": True}, Action.NOTE_DEATH),
        ({"state": "ready", "is_alive": True, "state_age_seconds": 1e6}, None),
        ({"state": "ready", "state_age_seconds": 5.0}, Action.NOTE_DEATH),
        ({"state": "ready", "is_alive": True, "wanted": False}, Action.DRAIN),
        ({"state": "ready", "is_alive": True, "crashes": 1, "state_age_seconds": 29.0}, None),
        (
            {"state": "ready", "is_alive": True, "crashes": 1, "state_age_seconds": 30.0},
            Action.FORGIVE,
        ),
        ({"state": "draining", "is_alive": True}, None),
        ({"state": "failed", "crashes": 2, "state_age_seconds": 1.9}, None),
        ({"state": "failed", "crashes": 2, "state_age_seconds": 2.0}, Action.START),
        ({"state": "failed", "crashes": 2, "wanted": False}, Action.NOTE_STOPPED),
    ],
)
def test_plan_of_a_case(changes: dict[str, object], action: Action | None) -> None:
    assert decide(replace(VIEW, **changes)) == action


def test_plan_of_a_fleet_keeps_replicas_apart() -> None:
    fleet = [
        replace(VIEW, id=1),
        replace(VIEW, id=2, wanted=False),
        replace(VIEW, id=3, state="ready", is_alive=True, wanted=False),
    ]
    assert plan(fleet, LEASE_SECONDS) == [(1, Action.START), (3, Action.DRAIN)]


@pytest.mark.parametrize(
    ("crashes", "seconds"), [(0, 0), (1, 0), (2, 2), (3, 4), (4, 8), (5, 16), (6, 30), (99, 30)]
)
def test_backoff(crashes: int, seconds: float) -> None:
    assert backoff_seconds(crashes) == seconds
    assert seconds <= MAX_BACKOFF_SECONDS


@dataclass
class _Life:
    """A replica driven by the plan, a second at a time."""

    view: ReplicaView
    now: float = 0.0
    since: float = 0.0

    def enter(self, state: str, **changes: bool | int) -> None:
        """Be in another state from now on."""
        self.since = self.now
        self.view = replace(self.view, state=state, **changes)

    def look(self) -> Action | None:
        """What the plan says now; time goes on by a second."""
        action = decide(replace(self.view, state_age_seconds=self.now - self.since))
        self.now += 1
        return action


def test_a_replica_that_dies_at_once_is_started_ever_more_rarely() -> None:
    life = _Life(replace(VIEW))
    starts = []
    while life.now < 100:
        match life.look():
            case Action.START:
                starts.append(life.now)
                life.enter("loading", is_dead=True)
            case Action.NOTE_DEATH:
                life.enter("failed", crashes=life.view.crashes + 1, is_dead=False)
    pauses = [later - earlier for earlier, later in itertools.pairwise(starts)]
    assert pauses == sorted(pauses)
    assert pauses[0] <= 2  # the first death costs no pause
    assert MAX_BACKOFF_SECONDS <= pauses[-1] <= MAX_BACKOFF_SECONDS + 2


def test_a_replica_from_wish_to_unload() -> None:
    life = _Life(replace(VIEW, file_ready=False))
    assert life.look() is None
    life.view = replace(life.view, file_ready=True)
    assert life.look() is Action.START
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
