"""The residency controller: one at a time brings observed replicas to what is desired."""

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import replace

import redis
from django.db import connection

from inference.cluster.liveness import liveness_folder
from inference.conf import InferenceSettings
from inference.controller.actions import FleetActions
from inference.controller.changes import Changes, is_settled, look_in_seconds
from inference.controller.outlook import Outlook, look
from inference.controller.prediction import Foresight
from inference.controller.watch import Watch
from inference.messages import Drain, Failed, encode
from inference.queue import keys
from inference.queue.demand import DemandReader, Which
from inference.queue.sweep import Sweep
from models_registry.errors import RegistryError
from models_registry.fleet import changes as fleet_changes
from models_registry.fleet.census import take_census
from models_registry.fleet.footprints import footprints_of
from models_registry.fleet.preloading import configured_versions
from models_registry.fleet.registrations import forget_released
from models_registry.models import Replica
from models_registry.plan.facts import Rules
from models_registry.plan.lifecycle import Action
from models_registry.plan.plan import Plan, plan
from models_registry.plan.reasons import Reason

logger = logging.getLogger(__name__)

# What the settings name changes with a default version or a preset, which nobody waits for.
PRELOADED_SECONDS = 5.0
FORGET_SECONDS = 60.0
# Any number that nothing else in this database locks: "brig" in ASCII.
ADVISORY_LOCK = 0x62726967
_GIVING_UP = frozenset({Action.FAIL_LOAD, Action.KILL})
_ENDINGS = frozenset({Action.DRAIN, Action.NOTE_DEATH, Action.NOTE_STOPPED})
UNAVAILABLE, LATE = "model_unavailable", "queue_timeout"
# Who waited in vain for room or a load for a minute need not ask again in a second.
LATE_RETRY_SECONDS = 10.0


class Controller:
    """Acts on ``models_registry.plan.plan`` and gives back the work of dead hosts.

    Call ``attend`` about twice a second. Several controllers may run; the one that holds the
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
        self._watch = Watch(client, settings.lease_seconds, clock)
        self._demand = DemandReader(client, settings.stream_ttl_seconds)
        self._actions = FleetActions(client)
        self._foresight = Foresight(settings, clock)
        self._preload_error = ""
        self._preloaded: set[str] = set()
        self._preloaded_due_at = clock()
        self._forget_due_at = clock()
        self._overdrawn_since: dict[str, float] = {}
        self._changes = Changes(client, settings.lease_seconds)
        self._is_settled = False
        self._mark: object = None
        self._look_due_at = clock()
        self._rules = Rules(
            lease_seconds=settings.lease_seconds,
            minimum_dwell_seconds=settings.minimum_dwell_seconds,
            maximum_wait_seconds=settings.maximum_wait_seconds,
            load_stall_seconds=settings.load_stall_seconds,
            # The longest that what runs may go on, and its last step after that.
            drain_timeout_seconds=settings.request_timeout_seconds + settings.step_timeout_seconds,
        )

    def attend(self) -> bool:
        """Call ``tick``, unless nothing has changed since it found all in order a moment ago."""
        mark = self._changes.mark() if self._is_settled else None
        if mark is not None and mark == self._mark and self._clock() < self._look_due_at:
            self._watch.note_unchanged()
            return True
        # Taken before the look, so that what changes meanwhile is seen the next time.
        self._mark = mark
        return self.tick()

    def tick(self) -> bool:
        """Look at everything once, and act.

        Returns:
            Whether this controller was the one to act.

        Raises:
            django.db.Error, redis.RedisError: one of them is away; call again later.
        """
        self._is_settled = False
        if not self._holds_lock():
            return False
        census = take_census()
        seen = self._watch.look([node.name for node in census.nodes])
        signs = {
            row.pk: self._watch.signs_of(row, seen, liveness_folder()) for row in census.replicas
        }
        # Hosts cannot renew their leases while Redis is away, so after an outage they get time;
        # one that is known to be dead does not.
        for launch in self._sweep.run(only_abandoned=self._watch.is_patient):
            logger.warning("host %s died: its generations continue elsewhere", launch)
        known = {str(row.launch_id) for row in census.replicas}
        self._drain_unknown(seen.silence_seconds.keys() - known)
        outlook = look(
            self._demand,
            census,
            seen,
            signs,
            self._configured(),
            self._foresight.wanted(),
            self._settings,
            self._rules,
        )
        drawn = self._plan(outlook)
        self._carry_out(drawn, outlook)
        self._tell(drawn, outlook)
        self._foresight.look(outlook, drawn, self._rules)
        if self._clock() >= self._forget_due_at:
            self._forget_due_at = self._clock() + FORGET_SECONDS
            forget_released()
        if not self._watch.is_patient and is_settled(drawn, outlook, self._rules):
            self._is_settled = True
            self._changes.follow(outlook)
            self._look_due_at = self._clock() + look_in_seconds(outlook)
        return True

    def _plan(self, outlook: Outlook) -> Plan:
        """What is to be done; remembers which nodes hold more than they may, and since when."""
        now = self._clock()
        nodes = [
            replace(node, overdrawn_seconds=now - self._overdrawn_since.get(node.name, now))
            for node in outlook.nodes
        ]
        drawn = plan(nodes, outlook.versions.values(), outlook.replicas, self._rules)
        for name in drawn.overdrawn:
            if name not in self._overdrawn_since:
                logger.warning(
                    "%s holds more than its budgets allow. Pinned models stay; where it helps, "
                    "idle ones leave when they have dwelt, busy ones in %g s.",
                    name,
                    self._rules.maximum_wait_seconds,
                )
        self._overdrawn_since = {
            name: self._overdrawn_since.get(name, now) for name in drawn.overdrawn
        }
        return drawn

    def _carry_out(self, drawn: Plan, outlook: Outlook) -> None:
        for replica_id, action in drawn.actions:
            row = outlook.rows[replica_id]
            if action in _GIVING_UP and self._watch.is_patient:
                continue  # it may be the machine, Redis or the database that stood still
            if action is Action.NOTE_READY:
                self._actions.note_ready(row, outlook.loads[str(row.launch_id)])
            elif action is Action.FAIL_LOAD:
                self._actions.fail_load(row, self._rules.load_stall_seconds)
            else:
                self._actions.act(row, action)
            # What waits by now may have named a time of its own for the next replica.
            if action in _ENDINGS and not outlook.versions[row.version.key].queued:
                self._demand.forget_keep_alive([row.version.key])
        for retired in drawn.retirements:
            row = outlook.rows[retired.replica_id]
            if not fleet_changes.retire(row, retired.reason):
                continue
            if retired.reason:
                logger.info("%s is put out of memory. %s", row, retired.reason)
            if row.state == Replica.State.READY:
                self._actions.act(row, Action.DRAIN)
            self._demand.forget_keep_alive([row.version.key])
        holding = [view.id for view in outlook.replicas if view.holds_memory]
        for start in drawn.starts:
            found = fleet_changes.row_for(start, holding)
            if found is not None:
                if outlook.versions[start.version].foreseen:
                    self._demand.note_unused(start.version)
                self._actions.start(found, start)
        self._measure(outlook)

    def _measure(self, outlook: Outlook) -> None:
        """Correct what is set aside for replicas by what they hold."""
        ready = [row for row in outlook.rows.values() if row.state == Replica.State.READY]
        footprints = footprints_of({row.version_id for row in ready}) if ready else {}
        for row in ready:
            held = outlook.loads[str(row.launch_id)].private_bytes
            if held is not None and not outlook.versions[row.version.key].unusable:
                fleet_changes.measure(row, held, footprints)

    def _tell(self, drawn: Plan, outlook: Outlook) -> None:
        """Answer requests that wait in vain, and say how far the others are."""
        ready = {row.version.key for row in outlook.rows.values() if row.state == "ready"}
        for key, reason in drawn.reasons.items():
            is_in_vain = outlook.versions[key].queued and key not in ready
            if is_in_vain and reason.is_final and not self._watch.is_patient:
                failed = Failed(UNAVAILABLE, reason.text, reason.retry_after_seconds)
                which = Which.FRESH if reason.spares_begun else Which.ALL
                count = self._demand.refuse(key, failed, which)
                logger.warning("%s: %d request(s) refused. %s", key, count, reason.text)
        for key, version in outlook.versions.items():
            if version.queued and key not in ready:
                reason = drawn.reasons.get(key, Reason("It is being loaded."))
                late = f"The request waited longer than the queue timeout for {key}. {reason.text}"
                again = reason.retry_after_seconds or LATE_RETRY_SECONDS
                self._demand.refuse(key, Failed(LATE, late, again), Which.LATE)
        reasons = {key: reason.text for key, reason in drawn.reasons.items()}
        fleet_changes.explain(outlook.rows.values(), reasons)
        loading = {key: 0.0 for key, version in outlook.versions.items() if version.queued}
        for row in outlook.rows.values():
            if row.state in (Replica.State.STARTING, Replica.State.LOADING):
                loading[row.version.key] = max(loading.get(row.version.key, 0.0), row.load_fraction)
        self._demand.announce(
            outlook.census.loadable_keys,
            {key: done for key, done in loading.items() if key not in ready},
        )

    def _configured(self) -> set[str]:
        """Keys of the versions that the settings want in memory; a bad name is told once."""
        if self._clock() < self._preloaded_due_at:
            return self._preloaded
        self._preloaded_due_at = self._clock() + PRELOADED_SECONDS
        try:
            versions = configured_versions(
                self._settings.preload_models, self._settings.config_preset
            )
            self._preloaded = {version.key for version in versions}
        except RegistryError as error:
            if str(error) != self._preload_error:
                logger.error("%s", error)
            self._preload_error = str(error)
            self._preloaded = set()
        return self._preloaded

    def _drain_unknown(self, launches: Iterable[str]) -> None:
        """Tell hosts that no replica names, because its row is gone, to end."""
        for launch in launches:
            self._redis.rpush(keys.control(launch), encode(Drain()))
            self._redis.expire(keys.control(launch), 60)

    def note_outage(self) -> None:
        """Redis was out of reach: give nobody up before every host could renew its lease."""
        self._is_settled = False
        self._watch.note_outage()

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
