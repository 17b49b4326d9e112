"""A replica under a real controller, with the database and Redis, and hosts of paper."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from inference.controller import actions as fleet_actions
from inference.controller import changes
from inference.controller import controller as controller_module
from inference.controller.controller import Controller
from inference.controller.observe import Heartbeats, Observation
from inference.queue import keys
from inference.queue.claims import HostClaims
from models_registry.fleet import desired, observed
from models_registry.fleet.snapshot import take_snapshot
from models_registry.fleet.views import HostFacts
from models_registry.models import Node, Replica
from tests.inference.queue.world import QueueWorld
from tests.models_registry.fleet_rows import a_node, a_version


@dataclass
class Fleet:
    """One wanted replica, its controller, and what the controller announced."""

    world: QueueWorld
    folder: Path
    replica: Replica
    now: float = 1000.0
    announced: list[dict[str, Any]] = field(default_factory=list)
    signs_of_life: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.controller = self.new_controller()

    def new_controller(self) -> Controller:
        """Another controller of the same fleet."""
        controller = Controller(self.world.redis, self.world.settings, clock=lambda: self.now)
        self.now += self.world.settings.lease_seconds  # before that it sweeps nothing
        return controller

    def show_node(self, node: Node, *launches: str) -> None:
        """Let a node's cluster take tasks, and say that these launches run there."""
        name = keys.node(node.name)
        self.signs_of_life.append(name)
        self.world.redis.set(name, " ".join(launches))

    def observe(self, facts: HostFacts) -> Observation:
        """The controller's observation while all hosts show the same."""
        snapshot = take_snapshot()
        return self.controller._observe(
            snapshot,
            Heartbeats({}, {node.name: frozenset() for node in snapshot.nodes}, {}),
            {str(row.launch_id): facts for row in snapshot.replicas},
        )

    def tick(self) -> Replica:
        """Let the controller look once; returns the replica as it is then."""
        assert self.controller.attend()
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
        assert observed.begin_launch(self.replica.pk, self.replica.launch_id, 77)
        claims = self.host()
        self.become(Replica.State.READY)
        return claims


@pytest.fixture
def fleet(
    db: None, world: QueueWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Fleet]:
    """A replica that is wanted and not there."""
    replica = desired.load(a_version(), a_node())
    fleet = Fleet(world, tmp_path, replica)
    for module in (controller_module, fleet_actions, changes):
        monkeypatch.setattr(module, "liveness_folder", lambda: tmp_path)
    fleet.show_node(replica.node)

    def announce(function: str, *args: Any, **options: Any) -> None:
        fleet.announced.append({"function": function, "args": args, **options})

    monkeypatch.setattr(fleet_actions, "async_task", announce)
    yield fleet
    world.redis.delete(*fleet.signs_of_life, keys.LOADABLE, keys.LOADING, keys.USED)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_unlock_all()")
