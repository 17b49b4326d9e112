"""The residency controller: one at a time brings observed replicas to what is desired."""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

import redis
from django.db import connection

from inference.cluster.liveness import liveness_folder
from inference.conf import InferenceSettings
from inference.controller.actions import FleetActions
from inference.controller.changes import ChangeDetector, full_tick_in_seconds, is_settled
from inference.controller.observe import Heartbeats, HostMonitor, Observation
from inference.controller.prediction import DemandPrediction
from inference.errors import ModelUnavailableError
from inference.messages import Failed
from inference.queue.claims import EXPIRED
from inference.queue.demand import DemandReader, Refused
from inference.queue.sweep import Sweep
from models_registry.errors import RegistryError
from models_registry.files.header_upgrade import upgrade_headers
from models_registry.fleet import changes as fleet_changes
from models_registry.fleet import views
from models_registry.fleet.footprints import footprints_of
from models_registry.fleet.preloading import configured_versions
from models_registry.fleet.registrations import claims, forget_released
from models_registry.fleet.snapshot import Snapshot, take_snapshot
from models_registry.fleet.views import HostFacts
from models_registry.models import Replica
from models_registry.plan.facts import Rules
from models_registry.plan.lifecycle import Action
from models_registry.plan.plan import Plan, plan
from models_registry.plan.reasons import Reason

logger = logging.getLogger(__name__)

# The versions that the settings name are read so often: they change with a default or a preset.
PRELOADED_SECONDS = 5.0
FORGET_SECONDS = 60.0
# Any number that nothing else in this database locks: "brig" in ASCII.
ADVISORY_LOCK = 0x62726967
_FENCING = frozenset({Action.FAIL_LOAD, Action.KILL})
_ENDINGS = frozenset({Action.DRAIN, Action.NOTE_DEATH, Action.NOTE_STOPPED})
_LOADING = frozenset({Replica.State.STARTING, Replica.State.LOADING})


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
        self._settings = settings
        self._clock = clock
        self._sweep = Sweep(client, settings.lease_seconds, settings.stream_ttl_seconds)
        self._monitor = HostMonitor(client, settings.lease_seconds, clock)
        self._demand = DemandReader(client, settings.stream_ttl_seconds)
        self._actions = FleetActions(client, settings.load_stall_seconds)
        self._prediction = DemandPrediction(settings, clock)
        self._preload_error = ""
        self._preloaded: set[str] = set()
        self._preloaded_due_at = clock()
        self._forget_due_at = clock()
        self._overdrawn_since: dict[str, float] = {}
        self._changes = ChangeDetector(client, settings.lease_seconds)
        self._is_settled = False
        self._fingerprint: object = None
        self._full_tick_due_at = clock()
        self._rules = Rules(
            lease_seconds=settings.lease_seconds,
            minimum_dwell_seconds=settings.minimum_dwell_seconds,
            maximum_wait_seconds=settings.maximum_wait_seconds,
            load_stall_seconds=settings.load_stall_seconds,
            # The longest time of a running request, and its last step after that.
            drain_timeout_seconds=settings.request_timeout_seconds + settings.step_timeout_seconds,
        )

    def attend(self) -> bool:
        """Call ``tick``, unless nothing has changed since it found all in order a moment ago."""
        fingerprint = self._changes.fingerprint() if self._is_settled else None
        is_unchanged = fingerprint is not None and fingerprint == self._fingerprint
        if is_unchanged and self._clock() < self._full_tick_due_at:
            self._monitor.note_unchanged()
            return True
        # Taken before the tick, so that changes during the tick are seen the next time.
        self._fingerprint = fingerprint
        return self.tick()

    def tick(self) -> bool:
        """Observe everything once, and act; False when another controller holds the lock."""
        self._is_settled = False
        if not self._holds_lock():
            return False
        snapshot = take_snapshot()
        upgrade_headers(snapshot.incomplete_files, self._settings.models_dir)
        heartbeats = self._monitor.read([node.name for node in snapshot.nodes])
        hosts = {
            launch: self._monitor.host_facts(launch, heartbeats, liveness_folder())
            for launch in (str(row.launch_id) for row in snapshot.replicas)
        }
        # Hosts cannot renew their leases while Redis is away, so after an outage they get time;
        # one that is known to be dead does not.
        for launch in self._sweep.run(only_abandoned=self._monitor.in_grace_period):
            logger.warning("host %s died: its generations continue elsewhere", launch)
        for launch in heartbeats.launch_silence_seconds.keys() - hosts.keys():
            self._actions.tell_to_drain(launch)  # its row was deleted
        observation = self._observe(snapshot, heartbeats, hosts)
        decided = self._plan(observation)
        self._carry_out(decided, observation)
        self._tell(decided, observation)
        self._prediction.update(observation, decided, self._rules)
        if self._clock() >= self._forget_due_at:
            self._forget_due_at = self._clock() + FORGET_SECONDS
            forget_released()
        if not self._monitor.in_grace_period and is_settled(decided, observation, self._rules):
            self._is_settled = True
            self._changes.follow(observation)
            self._full_tick_due_at = self._clock() + full_tick_in_seconds(observation)
        return True

    def _observe(
        self, snapshot: Snapshot, heartbeats: Heartbeats, hosts: Mapping[str, HostFacts]
    ) -> Observation:
        foreseen = self._prediction.to_preload()
        demand, hosts = self._demand.read(snapshot.version_keys, hosts, foreseen)
        wishes = views.Wishes(demand, self._configured(), foreseen, claims(), snapshot.taken_at)
        versions = views.wanted_versions(snapshot, wishes)
        nodes = views.node_views(snapshot, heartbeats.nodes, heartbeats.node_silence_seconds)
        usable = {node.name for node in nodes if node.is_alive or self._rules.expects(node)}
        version_views = views.version_views(
            versions,
            wishes,
            [node for node in snapshot.nodes if node.name in usable],
            self._settings.keep_alive_seconds,
        )
        rows = [row for row in snapshot.replicas if row.version_id in versions]
        return Observation(
            snapshot=snapshot,
            nodes=nodes,
            versions=version_views,
            replicas=[
                views.replica_view(
                    row,
                    hosts[str(row.launch_id)],
                    version_views[row.version.key].placements,
                    snapshot.taken_at,
                )
                for row in rows
            ],
            rows={row.pk: row for row in rows},
            hosts=hosts,
        )

    def _plan(self, observation: Observation) -> Plan:
        now = self._clock()
        nodes = [
            replace(node, overdrawn_seconds=now - self._overdrawn_since.get(node.name, now))
            for node in observation.nodes
        ]
        decided = plan(nodes, observation.versions.values(), observation.replicas, self._rules)
        for name in decided.overdrawn:
            if name not in self._overdrawn_since:
                logger.warning(
                    "%s holds more than its budgets allow. Pinned models stay; where it helps, "
                    "idle ones leave when they have dwelt, busy ones in %g s.",
                    name,
                    self._rules.maximum_wait_seconds,
                )
        self._overdrawn_since = {
            name: self._overdrawn_since.get(name, now) for name in decided.overdrawn
        }
        return decided

    def _carry_out(self, decided: Plan, observation: Observation) -> None:
        for replica_id, action in decided.actions:
            row = observation.rows[replica_id]
            if action in _FENCING and self._monitor.in_grace_period:
                continue  # the machine, Redis or the database may have stood still
            self._actions.act(row, action, observation.host_of(row))
            # Kept while requests wait: one of them may have set it for the next replica.
            if action in _ENDINGS and not observation.versions[row.version.key].queued:
                self._demand.forget_keep_alive(row.version.key)
        for retired in decided.retirements:
            row = observation.rows[retired.replica_id]
            if not fleet_changes.retire(row, retired.reason):
                continue
            if retired.reason:
                logger.info("%s leaves memory. %s", row, retired.reason)
            if row.state == Replica.State.READY:
                self._actions.drain(row)
            self._demand.forget_keep_alive(row.version.key)
        holding = [view.id for view in observation.replicas if view.holds_memory]
        for start in decided.starts:
            found = fleet_changes.row_for(start, holding)
            if found is not None:
                if observation.versions[start.version].foreseen:
                    self._demand.note_unused(start.version)
                self._actions.start(found, start)
        self._measure(observation)

    def _measure(self, observation: Observation) -> None:
        ready = [row for row in observation.rows.values() if row.state == Replica.State.READY]
        footprints = footprints_of({row.version_id for row in ready}) if ready else {}
        for row in ready:
            held = observation.host_of(row).private_bytes
            if held is not None and not observation.versions[row.version.key].unusable:
                fleet_changes.measure(row, held, footprints)

    def _tell(self, decided: Plan, observation: Observation) -> None:
        rows = observation.rows.values()
        ready = {row.version.key for row in rows if row.state == Replica.State.READY}
        waiting = {
            key
            for key, version in observation.versions.items()
            if version.queued and key not in ready
        }
        for key, reason in decided.reasons.items():
            if key in waiting and reason.is_final and not self._monitor.in_grace_period:
                code = ModelUnavailableError.default_code
                failed = Failed(code, reason.text, reason.retry_after_seconds)
                which = Refused.FRESH if reason.spares_begun else Refused.ALL
                count = self._demand.refuse(key, failed, which)
                logger.warning("%s: %d request(s) refused. %s", key, count, reason.text)
        for key in waiting:
            reason = decided.reasons.get(key, Reason("It is being loaded."))
            late = f"The request waited longer than the queue timeout for {key}. {reason.text}"
            again = reason.retry_after_seconds or EXPIRED.retry_after_seconds
            self._demand.refuse(key, Failed(EXPIRED.code, late, again), Refused.LATE)
        reasons = {key: reason.text for key, reason in decided.reasons.items()}
        fleet_changes.explain(rows, reasons)
        loading = dict.fromkeys(waiting, 0.0)
        for row in rows:
            key = row.version.key
            if row.state in _LOADING and key not in ready:
                loading[key] = max(loading.get(key, 0.0), row.load_fraction)
        self._demand.announce(observation.snapshot.loadable_keys, loading)

    def _configured(self) -> set[str]:
        """Keys of the versions that the settings want in memory; a bad name is logged once."""
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

    def note_outage(self) -> None:
        """Redis was out of reach: fence no host before it could renew its lease."""
        self._is_settled = False
        self._monitor.begin_grace_period()

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
