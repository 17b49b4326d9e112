"""The residency controller: one at a time brings observed replicas to what is desired."""

import logging
import time
import uuid
from collections.abc import Callable
from typing import Any

import redis
from django.db import connection
from django.utils import timezone
from django_q.brokers import get_broker
from django_q.tasks import async_task

from inference.conf import InferenceSettings
from inference.host.cluster import cluster_queue_name
from inference.host.liveness import LivenessLock
from inference.host.replica_task import liveness_folder
from inference.messages import Drain, encode
from inference.queue import keys
from inference.queue.sweep import Sweep
from models_registry.models import ModelVersion, Replica
from models_registry.residency import Action, ReplicaView, plan

logger = logging.getLogger(__name__)

# A cluster that is away must not find a heap of old announcements when it comes back.
MAX_ANNOUNCEMENTS = 32
# Leases are measured by Redis's wall clock; a laptop that wakes up moves it by hours.
CLOCK_JUMP_SECONDS = 1.0
# Any number that nothing else in this database locks: "brig" in ASCII.
ADVISORY_LOCK = 0x62726967


class Controller:
    """Acts on ``models_registry.residency.plan`` and gives back the work of dead hosts.

    Call ``tick`` about twice a second. Several controllers may run; the one that holds the
    database's advisory lock acts, the others wait to take over.
    """

    def __init__(
        self,
        client: redis.Redis,
        settings: InferenceSettings,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._redis = client
        self._settings = settings
        self._clock = clock
        self._sweep = Sweep(client, settings.lease_seconds, settings.stream_ttl_seconds)
        self._sweep_from = clock() + settings.lease_seconds
        self._redis_ahead_seconds: float | None = None

    def tick(self) -> bool:
        """Look once and act.

        Returns:
            Whether this controller was the one to act.

        Raises:
            django.db.Error, redis.RedisError: one of them is away; call again later.
        """
        if not self._holds_lock():
            return False
        views = {}
        launches = {}
        heartbeats = self._heartbeats()
        for replica in Replica.objects.select_related("version__model", "node"):
            launches[replica.pk] = replica
            views[replica.pk] = self._view(replica, heartbeats)
        # Hosts cannot renew their leases while Redis is away, so after an outage they get time;
        # one that is known to be dead does not.
        for launch in self._sweep.run(only_abandoned=self._in_grace):
            logger.warning("host %s died: its generations continue elsewhere", launch)
        self._drain_unknown(heartbeats, {str(replica.launch_id) for replica in launches.values()})
        for replica_id, action in plan(views.values(), self._settings.lease_seconds):
            self._act(launches[replica_id], action)
        return True

    def _drain_unknown(self, heartbeats: dict[str, float], known: set[str]) -> None:
        """Tell hosts that no replica names, because its row is gone, to end."""
        for launch in heartbeats.keys() - known:
            self._redis.rpush(keys.control(launch), encode(Drain()))
            self._redis.expire(keys.control(launch), 60)

    @property
    def _in_grace(self) -> bool:
        """Silence proves no death yet."""
        return self._clock() < self._sweep_from

    def note_outage(self) -> None:
        """Redis was out of reach: give nobody up before every host could renew its lease."""
        self._sweep_from = self._clock() + self._settings.lease_seconds

    def _holds_lock(self) -> bool:
        with connection.cursor() as cursor:
            # Session locks count, so ask first: taking one twice would need two releases.
            cursor.execute(
                "SELECT EXISTS (SELECT 1 FROM pg_locks WHERE locktype = 'advisory' "
                "AND pid = pg_backend_pid() AND objid = %s) OR pg_try_advisory_lock(%s)",
                [ADVISORY_LOCK, ADVISORY_LOCK],
            )
            row = cursor.fetchone()
        return bool(row and row[0])

    def _heartbeats(self) -> dict[str, float]:
        """Seconds since the last heartbeat of every host, by launch id."""
        seconds, microseconds = self._redis.time()
        now = seconds + microseconds / 1e6
        ahead = now - self._clock()
        jumped = ahead - (self._redis_ahead_seconds or ahead) > CLOCK_JUMP_SECONDS
        self._redis_ahead_seconds = ahead
        if jumped:
            logger.warning("the clock of Redis jumped: every host gets time to renew its lease")
            self.note_outage()
        pairs: Any = self._redis.zrange(keys.HOSTS, 0, -1, withscores=True)
        return {launch.decode(): now - beat for launch, beat in pairs}

    def _view(self, replica: Replica, heartbeats: dict[str, float]) -> ReplicaView:
        launch = str(replica.launch_id)
        is_dead = LivenessLock(liveness_folder(), launch).is_abandoned()
        if is_dead and launch in heartbeats:
            self._redis.zadd(keys.HOSTS, {launch: 0})
        silence = heartbeats.get(launch, float("inf"))
        return ReplicaView(
            id=replica.pk,
            wanted=replica.desired == Replica.Desired.RESIDENT,
            state=replica.state,
            state_age_seconds=(timezone.now() - replica.state_since).total_seconds(),
            is_alive=not is_dead and (self._in_grace or silence < self._settings.lease_seconds),
            is_dead=is_dead,
            crashes=replica.crashes,
            file_ready=replica.version.file_state == ModelVersion.FileState.READY,
        )

    def _act(self, replica: Replica, action: Action) -> None:
        launch = str(replica.launch_id)
        match action:
            case Action.START:
                replica.launch_id = uuid.uuid4()
                self._set_state(replica, Replica.State.STARTING)
                self._announce(replica)
            case Action.ANNOUNCE_AGAIN:
                self._set_state(replica, Replica.State.STARTING)
                self._announce(replica)
            case Action.DRAIN:
                self._redis.rpush(keys.control(launch), encode(Drain()))
                self._redis.expire(keys.control(launch), 3600)
            case Action.NOTE_DEATH:
                replica.crashes += 1
                replica.reason = f"Its process ended unexpectedly (death {replica.crashes})."
                logger.error("%s: %s", replica, replica.reason)
                self._set_state(replica, Replica.State.FAILED)
                LivenessLock(liveness_folder(), launch).remove()
            case Action.NOTE_STOPPED:
                replica.reason = ""
                self._set_state(replica, Replica.State.STOPPED)
            case Action.FORGIVE:
                replica.crashes = 0
                replica.save(update_fields=["crashes"])

    def _announce(self, replica: Replica) -> None:
        cluster = cluster_queue_name("models", replica.node.name)
        if get_broker(cluster).queue_size() >= MAX_ANNOUNCEMENTS:
            logger.warning("%s waits: nobody takes tasks of %s", replica, cluster)
            return
        async_task(
            "inference.host.replica_task.host_replica",
            replica.pk,
            str(replica.launch_id),
            cluster=cluster,
            timeout=-1,
            task_name=f"host {replica.version.key}",
        )
        logger.info("starting %s", replica)

    def _set_state(self, replica: Replica, state: str) -> None:
        """Move to ``state``, unless the host has moved on in the meantime."""
        before = Replica.objects.filter(pk=replica.pk, state=replica.state)
        before.update(
            state=state,
            state_since=timezone.now(),
            launch_id=replica.launch_id,
            crashes=replica.crashes,
            reason=replica.reason,
            process_id=None,
        )
        replica.state = state
