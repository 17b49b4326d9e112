"""The django-q task that is a replica: load one version, serve it, and tell the registry."""

import logging
import os
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import django.db
import redis
from django.conf import settings as django_settings

from inference.cluster.cluster import stop_requested
from inference.cluster.liveness import LivenessLock, liveness_folder
from inference.cluster.process_log import ProcessLog
from inference.conf import InferenceSettings, inference_settings
from inference.engine.backend import ModelLoadError
from inference.queue.claims import FencedError, HostClaims
from inference.replica.host import Host, HostConfig
from inference.replica.load_priority import LoadPriority
from inference.replica.loading import Loaded, import_runtime, load_engine
from inference.replica.process_memory import private_bytes, resident_bytes
from models_registry.catalogue.lookup import spec_of
from models_registry.errors import RegistryError
from models_registry.files.checks import require_checked
from models_registry.fleet import observed
from models_registry.models import Replica
from models_registry.rules.spec import ModelSpec

logger = logging.getLogger(__name__)

# Work still running this long after a stop signal is left for another host to continue.
STOP_SECONDS = 2.5
# So much more in memory is a load that moves; what a process has besides may change by less.
MOVED_BYTES = 1 << 20


def host_replica(replica_id: int, launch_id: str) -> str:
    """Be the replica until drained; ends at once when the announcement is out of date.

    Args:
        replica_id: row of the replica.
        launch_id: the launch that was announced.

    Returns:
        One word on how it ended, for django-q's record.
    """
    launch = uuid.UUID(launch_id)
    replica = observed.begin_launch(replica_id, launch, os.getpid())
    if replica is None:
        return "out of date"
    settings = inference_settings()
    lock = LivenessLock(liveness_folder(), launch_id)
    lock.hold()
    log = ProcessLog(liveness_folder(), launch_id)
    log.open()
    try:
        ending = _serve(replica, launch, settings)
    except FencedError:
        # Its memory is not free before this process has ended, which its lock shows.
        logger.error("%s was given up for dead and ends", replica)
        return "fenced"
    # After an exception the files stay: a lock that nobody holds tells the controller at once.
    log.remove()
    lock.remove()
    return ending


def _serve(replica: Replica, launch: uuid.UUID, settings: InferenceSettings) -> str:
    spec = spec_of(replica.version, settings.models_dir)
    if replica.placed_on != "auto":
        spec = replace(spec, device=replica.placed_on)
    client: redis.Redis = redis.Redis.from_url(
        django_settings.REDIS_URL, socket_timeout=10, socket_connect_timeout=2
    )
    claims = HostClaims(client, str(launch), spec.version_key)
    held_before = private_bytes()
    facts = {
        "node": replica.node.name,
        "process_id": os.getpid(),
        "replica_id": replica.pk,
        "private_before": held_before,
    }
    check = partial(_checked, replica, spec)
    try:
        loaded = _load(check, settings, claims, facts, launch)
    except ModelLoadError as error:
        logger.error("%s could not be loaded: %s", spec.version_key, error)
        _observe(
            launch,
            Replica.State.FAILED,
            reason=f"{spec.version_key} could not be loaded: {error}",
            crashes=replica.crashes + 1,
            load_failed=True,
        )
        claims.leave()
        return "failed to load"
    resident_bytes = private_bytes() - held_before
    # The controller records them when this process cannot.
    facts |= {
        "resident_bytes": resident_bytes,
        "device": loaded.device,
        "notice": loaded.notice,
    }
    _observe(
        launch,
        Replica.State.READY,
        resident_bytes=resident_bytes,
        load_fraction=1.0,
        reason=loaded.notice,
        device=loaded.device,
    )
    logger.info("%s is ready, %d MiB on %s", spec.version_key, resident_bytes >> 20, loaded.device)
    if loaded.notice:
        logger.warning("%s: %s", spec.version_key, loaded.notice)
    host = Host(
        claims,
        loaded.engine,
        _host_config(loaded, settings),
        abort=loaded.abort,
        facts=facts,
        stop_requested=stop_requested,
        on_draining=lambda: _observe(launch, Replica.State.DRAINING),
        free=loaded.close,
    )
    # Its memory is free before its room is given to others: the end of the process may come too
    # late for them.
    host.run()
    # What kills hosts may be what they are asked: one that was asked nothing proves nothing.
    forgiven = {"crashes": 0} if host.has_served else {}
    _observe(
        launch,
        Replica.State.STOPPED,
        reason="",
        process_id=None,
        resident_bytes=None,
        device="",
        **forgiven,
    )
    return "drained"


def _host_config(loaded: Loaded, settings: InferenceSettings) -> HostConfig:
    return HostConfig(
        max_items=loaded.max_items,
        heartbeat_seconds=settings.heartbeat_seconds,
        lease_seconds=settings.lease_seconds,
        stop_seconds=STOP_SECONDS,
        run_seconds=settings.request_timeout_seconds,
        step_timeout_seconds=settings.step_timeout_seconds,
        stream_ttl_seconds=settings.stream_ttl_seconds,
    )


def _checked(replica: Replica, spec: ModelSpec, on_progress: Callable[[float], None]) -> ModelSpec:
    """What is to be loaded, if its files are those that were checked.

    A draft model whose file is not is left out: the version serves without.

    Raises:
        ModelLoadError: it is not the version's own file; says why and where.
    """

    def report(done_bytes: int, total_bytes: int | None, _phase: str) -> None:
        on_progress(done_bytes / total_bytes if total_bytes else 0.0)

    version, node = replica.version, replica.node
    try:
        require_checked(version, Path(spec.path), report)
    except RegistryError as error:
        raise ModelLoadError(f"On {node.name}: {error}") from error
    draft = version.usable_draft
    if draft is None or spec.draft_path is None:
        return spec
    try:
        require_checked(draft, Path(spec.draft_path), report)
    except RegistryError as error:
        logger.warning("%s serves without its draft model: %s", version.key, error)
        return replace(spec, draft_path=None)
    return spec


def _load(
    check: Callable[[Callable[[float], None]], ModelSpec],
    settings: InferenceSettings,
    claims: HostClaims,
    facts: dict[str, Any],
    launch: uuid.UUID,
) -> Loaded:
    """Load in a thread of its own while this one shows that the process lives."""
    outcome: list[Loaded | BaseException] = []
    priority = LoadPriority()
    fraction = noted = 0.0
    most_bytes = 0

    def note(value: float) -> None:
        nonlocal fraction
        fraction = value

    def load() -> None:
        try:
            priority.lower()
            import_runtime()
            outcome.append(load_engine(check(note), settings, note, priority.giving_way))
        except BaseException as error:  # handed to the waiting thread
            outcome.append(error)

    thread = threading.Thread(target=load, name="load", daemon=True)
    began_at = time.monotonic()
    thread.start()
    while True:
        _tolerating_redis(
            lambda: claims.heartbeat(
                ready=False, ttl_seconds=int(settings.lease_seconds * 4) + 1, facts=facts
            )
        )
        thread.join(settings.heartbeat_seconds)
        if not thread.is_alive():
            break
        priority.review(time.monotonic() - began_at)
        # Of a file that is mapped llama.cpp tells nothing before all of it has been read.
        held_bytes = resident_bytes()
        if fraction != noted or held_bytes >= most_bytes + MOVED_BYTES:
            noted, most_bytes = fraction, max(most_bytes, held_bytes)
            _record("progress", partial(observed.note_progress, launch, noted))
    priority.restore()
    result = outcome[0]
    if isinstance(result, BaseException):
        raise result
    return result


def _tolerating_redis(action: Callable[[], None]) -> None:
    try:
        action()
    except (redis.ConnectionError, redis.TimeoutError) as error:
        logger.warning("no heartbeat, Redis is out of reach: %s", error)


def _observe(launch: uuid.UUID, state: str, **fields: Any) -> None:
    """Tell the registry what this launch does now."""
    _record(state, lambda: observed.observe(launch, state, **fields))


def _record(what: str, write: Callable[[], object]) -> None:
    """Write to the registry; a database that is away does not stop a model that serves."""
    try:
        # This thread lives for days: the connection it used last may be dead by now.
        django.db.close_old_connections()
        write()
    except django.db.Error as error:
        logger.warning("could not record %s, the controller will: %s", what, error)
