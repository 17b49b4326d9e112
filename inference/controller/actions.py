"""What the controller does to single replicas: start, drain, note how they ended."""

import logging
import uuid

import redis
from django.db.models.functions import Now
from django_q.brokers import get_broker
from django_q.tasks import async_task

from inference.cluster.host_log import HostLog, published_lines
from inference.cluster.liveness import LivenessLock, liveness_folder
from inference.cluster.names import MODELS_CLUSTER, cluster_queue_name
from inference.messages import Drain, encode
from inference.queue import keys
from inference.queue.demand import HostLoad
from models_registry.models import Replica
from models_registry.plan.lifecycle import CRASH_LOOP, Action, backoff_seconds
from models_registry.plan.plan import Start

logger = logging.getLogger(__name__)

# A cluster that is away must not find a heap of old announcements when it comes back.
MAX_ANNOUNCEMENTS = 32
# Longer than any host lives on that was given up; ``bury.lua`` has the same.
FENCED_SECONDS = 86_400


class FleetActions:
    """Announcements to clusters, messages to hosts, and their traces in the rows."""

    def __init__(self, client: redis.Redis) -> None:
        self._redis = client

    def start(self, replica: Replica, start: Start) -> None:
        """Announce a new launch of a replica, with the room that was set aside for it."""
        _forget(str(replica.launch_id))
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

    def act(self, replica: Replica, action: Action) -> None:
        """Do what is due for one replica."""
        launch = str(replica.launch_id)
        match action:
            case Action.ANNOUNCE_AGAIN:
                self._set_state(replica, Replica.State.STARTING)
                self._announce(replica)
            case Action.DRAIN:
                self._drain(replica, launch)
            case Action.KILL:
                if self._give_up(launch):
                    logger.warning("%s does not end and is given up", replica)
            case Action.NOTE_DEATH:
                self._note_death(replica, launch)
            case Action.NOTE_STOPPED:
                replica.reason = ""
                self._set_state(replica, Replica.State.STOPPED)
            case Action.FORGIVE:
                Replica.objects.filter(pk=replica.pk).update(crashes=0)
            case Action.NOTE_READY | Action.FAIL_LOAD:
                raise ValueError(f"There is a method of its own to {action.value}")

    def note_ready(self, replica: Replica, load: HostLoad) -> None:
        """Record that a launch serves: it could not itself while the database was away.

        Args:
            replica: its row, which says that it is being loaded.
            load: what its host shows of itself.
        """
        before = Replica.objects.filter(
            pk=replica.pk, launch_id=replica.launch_id, state=replica.state
        )
        before.update(
            state=Replica.State.READY,
            state_since=Now(),
            load_fraction=1.0,
            resident_bytes=load.resident_bytes,
            device=load.device,
            reason=load.notice,
        )
        logger.info("%s is ready, as its host shows", replica)

    def fail_load(self, replica: Replica, stalled_seconds: float) -> None:
        """Give up a launch whose load does not move.

        Args:
            replica: its row.
            stalled_seconds: how long it has not.
        """
        loading = Replica.objects.filter(
            pk=replica.pk, launch_id=replica.launch_id, state=Replica.State.LOADING
        )
        reason = (
            f"{replica.version.key} could not be loaded: it stood at {replica.load_fraction:.0%} "
            f"for {stalled_seconds:g} s (INFERENCE_LOAD_STALL). See whether the disk of "
            f"{replica.node.name} answers."
        )
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
            self._give_up(str(replica.launch_id))

    def _drain(self, replica: Replica, launch: str) -> None:
        """Tell a host to leave, and note since when it was to."""
        self._redis.rpush(keys.control(launch), encode(Drain()))
        self._redis.expire(keys.control(launch), 3600)
        serving = Replica.objects.filter(
            pk=replica.pk, launch_id=replica.launch_id, state=Replica.State.READY
        )
        serving.update(state=Replica.State.DRAINING, state_since=Now())

    def _give_up(self, launch: str) -> bool:
        """Fence a host: the next sweep returns its work, and its node kills its process.

        Returns:
            False when it was given up before.
        """
        if not self._redis.set(keys.fenced(launch), 1, ex=FENCED_SECONDS, nx=True):
            return False
        self._redis.zadd(keys.HOSTS, {launch: 0})
        return True

    def _note_death(self, replica: Replica, launch: str) -> None:
        # One that shows itself again a moment later must not go on beside its successor.
        self._give_up(launch)
        replica.crashes += 1
        log = HostLog(liveness_folder(), launch)
        how = log.last_lines() or published_lines(self._redis, launch)
        if replica.crashes < CRASH_LOOP:
            replica.reason = f"Its process ended unexpectedly (death {replica.crashes})."
        else:
            rest = backoff_seconds(replica.crashes)
            replica.reason = (
                f"{replica.version.key} ended unexpectedly {replica.crashes} times in a row and "
                f"rests for {rest:g} s."
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
        _forget(launch)

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

    def _set_state(self, replica: Replica, state: str, **fields: object) -> None:
        """Move to ``state``, unless the host has moved on in the meantime."""
        before = Replica.objects.filter(pk=replica.pk, state=replica.state)
        before.update(
            state=state,
            state_since=Now(),
            launch_id=replica.launch_id,
            crashes=replica.crashes,
            reason=replica.reason,
            process_id=None,
            **fields,
        )
        replica.state = state


def _forget(launch: str) -> None:
    """Remove the files of a launch that has ended, where they are on this machine."""
    lock = LivenessLock(liveness_folder(), launch)
    if not lock.is_held():
        HostLog(liveness_folder(), launch).remove()
        lock.remove()
