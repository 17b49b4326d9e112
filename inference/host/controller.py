"""The residency controller: one at a time brings observed replicas to what is desired."""

import logging
import time
from collections.abc import Callable
from typing import Any

import redis
from django.db import connection

from inference.conf import InferenceSettings
from inference.host.fleet_actions import FleetActions
from inference.host.foresight import Foresight
from inference.host.liveness import LivenessLock
from inference.host.outlook import Outlook, Signs, look
from inference.host.replica_task import liveness_folder
from inference.messages import Drain, encode
from inference.queue import keys
from inference.queue.demand import DemandReader
from inference.queue.sweep import Sweep
from models_registry import fleet
from models_registry.errors import RegistryError
from models_registry.models import Replica
from models_registry.preloading import configured_versions
from models_registry.residency.facts import Rules
from models_registry.residency.lifecycle import Action
from models_registry.residency.plan import Plan, plan

logger = logging.getLogger(__name__)

# Leases are measured by Redis's wall clock; a laptop that wakes up moves it by hours.
CLOCK_JUMP_SECONDS = 1.0
# Any number that nothing else in this database locks: "brig" in ASCII.
ADVISORY_LOCK = 0x62726967
_ENDINGS = frozenset({Action.DRAIN, Action.NOTE_DEATH, Action.NOTE_STOPPED})
UNAVAILABLE, LATE = "model_unavailable", "queue_timeout"


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
        self._demand = DemandReader(client, settings.stream_ttl_seconds)
        self._actions = FleetActions(client)
        self._foresight = Foresight(settings, clock)
        self._preload_error = ""
        self._rules = Rules(
            lease_seconds=settings.lease_seconds,
            minimum_dwell_seconds=settings.minimum_dwell_seconds,
            maximum_wait_seconds=settings.maximum_wait_seconds,
        )

    def tick(self) -> bool:
        """Look once and act.

        Returns:
            Whether this controller was the one to act.

        Raises:
            django.db.Error, redis.RedisError: one of them is away; call again later.
        """
        if not self._holds_lock():
            return False
        rows = list(fleet.replicas())
        heartbeats = self._heartbeats()
        signs = {row.pk: self._signs(row, heartbeats) for row in rows}
        # Hosts cannot renew their leases while Redis is away, so after an outage they get time;
        # one that is known to be dead does not.
        for launch in self._sweep.run(only_abandoned=self._in_grace):
            logger.warning("host %s died: its generations continue elsewhere", launch)
        self._drain_unknown(heartbeats, {str(row.launch_id) for row in rows})
        outlook = look(
            self._redis,
            self._demand,
            rows,
            signs,
            self._preloaded(),
            self._settings,
            self._foresight.wanted(),
        )
        drawn = plan(outlook.nodes, outlook.versions.values(), outlook.replicas, self._rules)
        self._carry_out(drawn, outlook)
        self._tell(drawn, outlook)
        self._foresight.look(outlook, drawn, self._rules)
        return True

    def _carry_out(self, drawn: Plan, outlook: Outlook) -> None:
        for replica_id, action in drawn.actions:
            row = outlook.rows[replica_id]
            if action is Action.NOTE_READY:
                self._actions.note_ready(row, outlook.loads[str(row.launch_id)])
            else:
                self._actions.act(row, action)
            # What waits by now may have named a time of its own for the next replica.
            if action in _ENDINGS and not outlook.versions[row.version.key].queued:
                self._demand.forget_keep_alive([row.version.key])
        for retired in drawn.retirements:
            row = outlook.rows[retired.replica_id]
            logger.info("%s is put out of memory. %s", row, retired.reason)
            fleet.retire(retired.replica_id, retired.reason)
            if row.state == Replica.State.READY:
                self._actions.act(row, Action.DRAIN)
            self._demand.forget_keep_alive([row.version.key])
        holding = [view.id for view in outlook.replicas if view.holds_memory]
        for start in drawn.starts:
            found = fleet.row_for(start, holding)
            if found is not None:
                if outlook.versions[start.version].foreseen:
                    self._demand.note_unused(start.version)
                self._actions.start(found, start)
        for row in outlook.rows.values():
            held = outlook.loads[str(row.launch_id)].private_bytes
            is_usable = not outlook.versions[row.version.key].unusable
            if row.state == Replica.State.READY and held is not None and is_usable:
                fleet.measure(row, held)

    def _tell(self, drawn: Plan, outlook: Outlook) -> None:
        """Answer requests that wait in vain, and say how far the others are."""
        ready = {row.version.key for row in outlook.rows.values() if row.state == "ready"}
        for key, reason in drawn.reasons.items():
            is_in_vain = outlook.versions[key].queued and key not in ready
            if is_in_vain and reason.is_final and not self._in_grace:
                count = self._demand.refuse(key, UNAVAILABLE, reason.text, only_late=False)
                logger.warning("%s: %d request(s) refused. %s", key, count, reason.text)
        for key, version in outlook.versions.items():
            if version.queued and key not in ready:
                text = drawn.reasons[key].text if key in drawn.reasons else "It is being loaded."
                late = f"The request waited longer than the queue timeout for {key}. {text}"
                self._demand.refuse(key, LATE, late, only_late=True)
        fleet.explain({key: reason.text for key, reason in drawn.reasons.items()})
        loading = {key: 0.0 for key, version in outlook.versions.items() if version.queued}
        for row in outlook.rows.values():
            if row.state in (Replica.State.STARTING, Replica.State.LOADING):
                loading[row.version.key] = max(loading.get(row.version.key, 0.0), row.load_fraction)
        self._demand.announce(
            outlook.loadable, {key: done for key, done in loading.items() if key not in ready}
        )

    def _preloaded(self) -> set[str]:
        """Keys of the versions that the settings want in memory; a bad name is told once."""
        try:
            versions = configured_versions(
                self._settings.preload_models, self._settings.config_preset
            )
        except RegistryError as error:
            if str(error) != self._preload_error:
                logger.error("%s", error)
            self._preload_error = str(error)
            return set()
        return {version.key for version in versions}

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

    def _signs(self, replica: Replica, heartbeats: dict[str, float]) -> Signs:
        launch = str(replica.launch_id)
        lock = LivenessLock(liveness_folder(), launch)
        is_dead = lock.is_abandoned()
        if is_dead and launch in heartbeats:
            self._redis.zadd(keys.HOSTS, {launch: 0})
        silence = heartbeats.get(launch, float("inf"))
        return Signs(
            is_alive=not is_dead and (self._in_grace or silence < self._settings.lease_seconds),
            is_dead=is_dead,
            holds_memory=lock.is_held(),
        )
