"""Start and drain single replicas, and record how they ended."""

import logging
import uuid

import redis
from django.db.models import QuerySet
from django.db.models.functions import Now
from django.utils import timezone
from django_q.brokers import get_broker
from django_q.tasks import async_task

from inference.cluster.host_log import HostLog, published_lines
from inference.cluster.liveness import LivenessLock, liveness_folder
from inference.cluster.names import MODELS_CLUSTER, cluster_queue_name
from inference.ledger.fleet_samples import count_load
from inference.messages import Drain, encode
from inference.queue import keys
from inference.queue.sweep import fence
from metrics.ledger import store
from metrics.prometheus.counters import field_of
from metrics.prometheus.names import LOADS
from models_registry.fleet.views import HostFacts
from models_registry.models import Replica
from models_registry.plan.lifecycle import CRASH_LOOP, Action, backoff_seconds
from models_registry.plan.plan import Start

logger = logging.getLogger(__name__)

# A cluster that is away must not find a heap of old announcements when it comes back.
MAX_ANNOUNCEMENTS = 32
CONTROL_SECONDS = 3600


class FleetActions:
    """Announces launches to clusters, sends messages to hosts, and writes the replicas' rows."""

    def __init__(self, client: redis.Redis, load_stall_seconds: float) -> None:
        self._redis = client
        self._load_stall_seconds = load_stall_seconds

    def start(self, replica: Replica, start: Start) -> None:
        _remove_files(str(replica.launch_id))
        replica.launch_id = uuid.uuid4()
        replica.reason = ""
        self._set_state(
            replica,
            Replica.State.STARTING,
            placed_on=start.device,
            needed_bytes=dict(start.needs),
            load_failed=False,
            load_fraction=0.0,
        )
        self._announce(replica)
        self._count_load(replica)

    def act(self, replica: Replica, action: Action, host: HostFacts) -> None:
        match action:
            case Action.ANNOUNCE_AGAIN:
                self._set_state(replica, Replica.State.STARTING)
                self._announce(replica)
            case Action.DRAIN:
                self.drain(replica)
            case Action.KILL:
                if fence(self._redis, str(replica.launch_id)):
                    logger.warning("%s does not end and is fenced", replica)
            case Action.NOTE_DEATH:
                self._note_death(replica)
            case Action.NOTE_STOPPED:
                replica.reason = ""
                self._set_state(replica, Replica.State.STOPPED)
            case Action.FORGIVE:
                Replica.objects.filter(pk=replica.pk).update(crashes=0)
            case Action.NOTE_READY:
                self._note_ready(replica, host)
            case Action.FAIL_LOAD:
                self._fail_load(replica)

    def drain(self, replica: Replica) -> None:
        self.tell_to_drain(str(replica.launch_id))
        ready = _unchanged(replica).filter(state=Replica.State.READY)
        ready.update(state=Replica.State.DRAINING, state_since=Now())

    def tell_to_drain(self, launch: str) -> None:
        self._redis.rpush(keys.control(launch), encode(Drain()))
        self._redis.expire(keys.control(launch), CONTROL_SECONDS)

    def _note_ready(self, replica: Replica, host: HostFacts) -> None:
        """Record that a launch serves, which its host could not while the database was away."""
        _unchanged(replica).filter(state=replica.state).update(
            state=Replica.State.READY,
            state_since=Now(),
            load_fraction=1.0,
            resident_bytes=host.resident_bytes,
            device=host.device,
            reason=host.notice,
        )
        logger.info("%s is ready, as its host shows", replica)

    def _fail_load(self, replica: Replica) -> None:
        reason = (
            f"{replica.version.key} could not be loaded: it stood at {replica.load_fraction:.0%} "
            f"for {self._load_stall_seconds:g} s (INFERENCE_LOAD_STALL). See whether the disk of "
            f"{replica.node.name} answers."
        )
        loading = _unchanged(replica).filter(state=Replica.State.LOADING)
        failed = loading.update(
            state=Replica.State.FAILED,
            state_since=Now(),
            reason=reason,
            crashes=replica.crashes + 1,
            load_failed=True,
            process_id=None,
        )
        if failed:  # it has not become ready meanwhile
            logger.error("%s", reason)
            fence(self._redis, str(replica.launch_id))

    def _note_death(self, replica: Replica) -> None:
        launch = str(replica.launch_id)
        # A host that shows itself again a moment later must not go on beside its successor.
        fence(self._redis, launch)
        replica.crashes += 1
        log = HostLog(liveness_folder(), launch)
        how = log.last_lines() or published_lines(self._redis, launch)
        if replica.crashes < CRASH_LOOP:
            replica.reason = f"Its process ended unexpectedly (death {replica.crashes})."
        else:
            rest = backoff_seconds(replica.crashes)
            replica.reason = (
                f"{replica.version.key} ended unexpectedly {replica.crashes} times in a row and "
                f"is started again in {rest:g} s at the earliest."
            )
        if how:
            replica.reason += f"\nIts log ends:\n{how}"
        else:
            replica.reason += (
                f"\nIf it left a log, that is {log.name} in the folder run of BRIGADE_HOME "
                f"on {replica.node.name}."
            )
        logger.error("%s: %s", replica, replica.reason)
        self._set_state(replica, Replica.State.FAILED, resident_bytes=None, device="")
        _remove_files(launch)

    def _announce(self, replica: Replica) -> None:
        cluster = cluster_queue_name(MODELS_CLUSTER, replica.node.name)
        if get_broker(cluster).queue_size() >= MAX_ANNOUNCEMENTS:
            logger.warning("%s waits: nobody takes tasks of %s", replica, cluster)
            return
        async_task(
            "inference.replica.replica_task.host_replica",
            replica.pk,
            str(replica.launch_id),
            cluster=cluster,
            timeout=-1,
            task_name=f"host {replica.version.key}",
        )
        logger.info("starting %s", replica)

    def _count_load(self, replica: Replica) -> None:
        count_load(replica, timezone.now())
        try:
            self._redis.hincrby(store.COUNTERS, field_of(LOADS, replica.version.key), 1)
        except redis.RedisError as error:
            logger.warning("a load of %s is not counted: %s", replica.version.key, error)

    def _set_state(self, replica: Replica, state: str, **fields: object) -> None:
        """Move to ``state``, unless the host has moved on in the meantime."""
        Replica.objects.filter(pk=replica.pk, state=replica.state).update(
            state=state,
            state_since=Now(),
            launch_id=replica.launch_id,
            crashes=replica.crashes,
            reason=replica.reason,
            process_id=None,
            **fields,
        )
        replica.state = state


def _unchanged(replica: Replica) -> QuerySet[Replica]:
    return Replica.objects.filter(pk=replica.pk, launch_id=replica.launch_id)


def _remove_files(launch: str) -> None:
    lock = LivenessLock(liveness_folder(), launch)
    if not lock.is_held():
        HostLog(liveness_folder(), launch).remove()
        lock.remove()
