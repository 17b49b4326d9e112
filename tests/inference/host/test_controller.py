"""The residency controller brings what is to what is wanted, and only one of them acts."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from inference.host import controller as controller_module
from inference.host.controller import ADVISORY_LOCK, Controller
from inference.host.liveness import LivenessLock
from inference.messages import Drain
from inference.queue import keys
from inference.queue.claims import HostClaims
from models_registry import services
from models_registry.models import ModelVersion, Node, Replica
from models_registry.residency import CALM_SECONDS, START_TIMEOUT_SECONDS
from tests.inference.queue.world import QueueWorld
from tests.models_registry.fleet_rows import a_node, a_version

State = Replica.State


@dataclass
class Fleet:
    """One wanted replica, its controller, and what the controller announced."""

    world: QueueWorld
    folder: Path
    replica: Replica
    now: float = 1000.0
    announced: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.controller = self.new_controller()

    def new_controller(self) -> Controller:
        """Another controller of the same fleet."""
        controller = Controller(self.world.redis, self.world.settings, clock=lambda: self.now)
        self.now += self.world.settings.lease_seconds  # before that it sweeps nothing
        return controller

    def tick(self) -> Replica:
        """Let the controller look once; returns the replica as it is then."""
        assert self.controller.tick()
        self.replica.refresh_from_db()
        return self.replica

    def become(self, state: str, **fields: Any) -> None:
        """Write what a host would have observed just now."""
        Replica.objects.filter(pk=self.replica.pk).update(
            state=state, state_since=timezone.now(), **fields
        )
        self.replica.refresh_from_db()

    def age(self, seconds: float) -> None:
        """Let the state be so old."""
        since = timezone.now() - timedelta(seconds=seconds)
        Replica.objects.filter(pk=self.replica.pk).update(state_since=since)

    @property
    def launch(self) -> str:
        """The newest launch."""
        return str(self.replica.launch_id)

    def host(self) -> HostClaims:
        """The announced host, alive from now on."""
        self.world.adopt(self.launch)
        claims = HostClaims(self.world.redis, self.launch, self.world.version_key)
        claims.heartbeat(ready=True, ttl_seconds=60, facts={})
        return claims

    def start(self) -> HostClaims:
        """Bring the replica to ready, as a host does."""
        self.tick()
        assert self.replica.launch_id is not None
        assert services.begin_launch(self.replica.pk, self.replica.launch_id, 77)
        claims = self.host()
        self.become(State.READY)
        return claims


@pytest.fixture
def fleet(
    db: None, world: QueueWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Fleet]:
    """A replica that is wanted and not there."""
    replica = services.load(a_version(), a_node())
    fleet = Fleet(world, tmp_path, replica)
    monkeypatch.setattr(controller_module, "liveness_folder", lambda: tmp_path)

    def announce(function: str, *args: Any, **options: Any) -> None:
        fleet.announced.append({"function": function, "args": args, **options})

    monkeypatch.setattr(controller_module, "async_task", announce)
    yield fleet
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_unlock_all()")


def test_start_announces_the_replica_to_its_node(fleet: Fleet) -> None:
    replica = fleet.tick()
    assert replica.state == State.STARTING
    (announced,) = fleet.announced
    assert announced["function"] == "inference.host.replica_task.host_replica"
    assert announced["args"] == (replica.pk, fleet.launch)
    assert announced["cluster"] == f"models@{replica.node.name}"
    assert announced["timeout"] == -1
    fleet.tick()
    assert len(fleet.announced) == 1


def test_a_replica_whose_file_is_not_there_is_not_started(fleet: Fleet) -> None:
    ModelVersion.objects.update(file_state=ModelVersion.FileState.FETCHING)
    assert fleet.tick().state == State.STOPPED
    assert fleet.announced == []


def test_an_announcement_that_nobody_takes_up_is_made_again(fleet: Fleet) -> None:
    fleet.tick()
    launch = fleet.launch
    fleet.age(START_TIMEOUT_SECONDS)
    fleet.tick()
    fleet.tick()
    assert [announced["args"][1] for announced in fleet.announced] == [launch, launch]
    assert fleet.replica.launch_id is not None
    assert services.begin_launch(fleet.replica.pk, fleet.replica.launch_id, 1)
    # The second announcement arrives too, and finds the first taken up.
    assert services.begin_launch(fleet.replica.pk, fleet.replica.launch_id, 2) is None


def test_an_announcement_taken_back_is_out_of_date(fleet: Fleet) -> None:
    fleet.tick()
    services.unload(fleet.replica.version)
    assert fleet.tick().state == State.STOPPED
    assert fleet.replica.launch_id is not None
    assert services.begin_launch(fleet.replica.pk, fleet.replica.launch_id, 1) is None


def test_a_replica_no_longer_wanted_is_drained(fleet: Fleet) -> None:
    claims = fleet.start()
    fleet.tick()
    assert claims.controls() == []
    services.unload(fleet.replica.version)
    fleet.tick()
    assert claims.controls() == [Drain()]
    claims.leave()
    fleet.become(State.STOPPED)
    assert fleet.tick().state == State.STOPPED
    assert len(fleet.announced) == 1


def test_a_silent_host_is_noted_dead_and_started_again_at_once(fleet: Fleet) -> None:
    claims = fleet.start()
    claims.leave()
    launch = fleet.launch
    assert fleet.tick().state == State.READY  # the heartbeat may be on its way
    fleet.age(fleet.world.settings.lease_seconds)
    replica = fleet.tick()
    assert (replica.state, replica.crashes) == (State.FAILED, 1)
    assert "death 1" in replica.reason
    assert fleet.tick().state == State.STARTING
    assert fleet.launch != launch
    assert len(fleet.announced) == 2


def test_the_lock_of_a_dead_host_tells_at_once_and_its_work_comes_back(fleet: Fleet) -> None:
    claims = fleet.start()
    item = fleet.world.enqueued()
    claims.claim(1, may_take_suspect=True)
    LivenessLock(fleet.folder, fleet.launch).hold()
    fleet.tick()
    assert (fleet.replica.state, fleet.world.waiting()) == (State.READY, [])
    lock_file = fleet.folder / f"host-{fleet.launch}.lock"
    lock_file.unlink()  # what the kernel does to the lock of a process that dies
    lock_file.touch()
    fleet.tick()
    assert (fleet.replica.state, fleet.world.waiting()) == (State.FAILED, [item.id])
    assert not lock_file.exists()


@pytest.mark.parametrize(("age", "state"), [(3.9, State.FAILED), (4.0, State.STARTING)])
def test_a_replica_that_keeps_dying_rests_before_its_next_start(
    fleet: Fleet, age: float, state: str
) -> None:
    fleet.become(State.FAILED, crashes=3)
    fleet.age(age)
    assert fleet.tick().state == state


def test_a_replica_that_has_served_long_is_forgiven(fleet: Fleet) -> None:
    fleet.start()
    fleet.become(State.READY, crashes=3)
    assert fleet.tick().crashes == 3
    fleet.age(CALM_SECONDS)
    assert fleet.tick().crashes == 0
    assert fleet.replica.state == State.READY


def test_unload_of_a_failed_replica_lets_it_rest_for_good(fleet: Fleet) -> None:
    fleet.become(State.FAILED, crashes=2, reason="no memory")
    services.unload(fleet.replica.version)
    replica = fleet.tick()
    assert (replica.state, replica.reason) == (State.STOPPED, "")
    fleet.tick()
    assert fleet.announced == []


def test_work_of_a_host_that_the_registry_does_not_know_comes_back_too(fleet: Fleet) -> None:
    stranger = fleet.world.host()
    item = fleet.world.enqueued()
    stranger.claim()
    stranger.die()
    fleet.tick()
    assert fleet.world.waiting() == [item.id]


def test_after_an_outage_hosts_get_time_to_renew_their_leases(fleet: Fleet) -> None:
    host = fleet.world.host()
    item = fleet.world.enqueued()
    host.claim()
    an_hour_ago = int(fleet.world.redis.time()[0]) - 3600
    fleet.world.redis.zadd(keys.HOSTS, {host.launch_id: an_hour_ago})
    fleet.controller.note_outage()
    fleet.now += fleet.world.settings.lease_seconds - 0.1
    fleet.tick()
    assert fleet.world.waiting() == []
    fleet.now += 0.2
    fleet.tick()
    assert fleet.world.waiting() == [item.id]


def test_after_an_outage_a_host_known_to_be_dead_gets_no_time(fleet: Fleet) -> None:
    host = fleet.world.host()
    item = fleet.world.enqueued()
    host.claim()
    host.die()
    fleet.controller.note_outage()
    fleet.tick()
    assert fleet.world.waiting() == [item.id]


def test_after_an_outage_a_silent_host_is_not_taken_for_dead_at_once(fleet: Fleet) -> None:
    fleet.start().leave()  # as in a Redis that lost the heartbeats
    lease_seconds = fleet.world.settings.lease_seconds
    fleet.age(lease_seconds)
    fleet.controller.note_outage()
    assert fleet.tick().state == State.READY
    fleet.now += lease_seconds
    assert fleet.tick().state == State.FAILED


def test_a_host_that_moves_on_meanwhile_is_not_overwritten(fleet: Fleet) -> None:
    fleet.tick()
    stale = Replica.objects.select_related("version__model", "node").get(pk=fleet.replica.pk)
    fleet.become(State.LOADING, process_id=77)
    fleet.controller._set_state(stale, State.STOPPED)
    fleet.replica.refresh_from_db()
    assert (fleet.replica.state, fleet.replica.process_id) == (State.LOADING, 77)


def test_nodes_are_told_apart(fleet: Fleet) -> None:
    local = Node.objects.create(name="local")
    services.load(fleet.replica.version, local)
    fleet.tick()
    clusters = {announced["cluster"] for announced in fleet.announced}
    assert clusters == {f"models@{fleet.replica.node.name}", "models"}


def _tick_elsewhere(controller: Controller) -> bool:
    """Tick on a database connection of its own, which ends with the thread."""
    acted: list[bool] = []

    def tick() -> None:
        try:
            acted.append(controller.tick())
        finally:
            connection.close()

    thread = threading.Thread(target=tick)
    thread.start()
    thread.join(10)
    return acted[0]


def test_only_one_controller_acts_until_it_is_gone(transactional_db: None, fleet: Fleet) -> None:
    second = fleet.new_controller()
    fleet.tick()
    fleet.tick()
    fleet.age(START_TIMEOUT_SECONDS)
    assert not _tick_elsewhere(second)
    assert len(fleet.announced) == 1
    with connection.cursor() as cursor:
        # Taken once however often it looked, so that one release is enough.
        cursor.execute("SELECT pg_advisory_unlock(%s)", [ADVISORY_LOCK])
    assert _tick_elsewhere(second)
    assert len(fleet.announced) == 2


def test_another_controller_takes_over_when_the_connection_is_lost(
    transactional_db: None, fleet: Fleet
) -> None:
    fleet.tick()
    second = fleet.new_controller()
    assert not _tick_elsewhere(second)
    connection.close()
    assert _tick_elsewhere(second)
