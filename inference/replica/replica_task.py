"""The django-q task that is a replica: load one version, serve it, record its state."""

import logging
import os
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import Future, wait
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import django.db
import redis
from django.conf import settings as django_settings

from inference import tracing
from inference.cluster.host_log import HostLog
from inference.cluster.liveness import LivenessLock, liveness_folder
from inference.cluster.sentinel import stop_requested
from inference.conf import InferenceSettings, inference_settings
from inference.engine.backend import ModelLoadError
from inference.queue.claims import FencedError, HostClaims
from inference.replica.host import Host, HostConfig, heartbeat_ttl_seconds
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
# A load makes progress when its memory grows by this much; other memory may change by less.
PROGRESS_BYTES = 1 << 20


def host_replica(replica_id: int, launch_id: str) -> str:
    """Be the replica until it is drained; end at once when ``launch_id`` is out of date.

    Returns how it ended, for django-q's record.
    """
    replica = observed.begin_launch(replica_id, uuid.UUID(launch_id), os.getpid())
    if replica is None:
        return "out of date"
    settings = inference_settings()
    lock = LivenessLock(liveness_folder(), launch_id)
    lock.hold()
    log = HostLog(liveness_folder(), launch_id)
    log.open()
    tracing.start()
    try:
        ending = Launch(replica, launch_id, settings).run()
    except FencedError:
        # The lock stays held until the process has ended, because its memory is not free before.
        logger.error("%s was fenced and ends", replica)
        return "fenced"
    finally:
        tracing.stop()
    # After an exception the files stay: a lock that nobody holds tells the controller at once.
    log.remove()
    lock.remove()
    return ending


class Launch:
    """One launch of a replica in this process: check, load, serve, and record each state."""

    def __init__(self, replica: Replica, launch_id: str, settings: InferenceSettings) -> None:
        self._replica = replica
        self._id = uuid.UUID(launch_id)
        self._settings = settings
        self._spec = spec_of(replica.version, settings.models_dir)
        if replica.placed_on != "auto":
            self._spec = replace(self._spec, device=replica.placed_on)
        client: redis.Redis = redis.Redis.from_url(
            django_settings.REDIS_URL, socket_timeout=10, socket_connect_timeout=2
        )
        self._claims = HostClaims(client, str(self._id), self._spec.version_key)
        self._bytes_before = private_bytes()
        self._facts: dict[str, Any] = {
            "node": replica.node.name,
            "weights": self._spec.weights,
            "process_id": os.getpid(),
            "replica_id": replica.pk,
            "private_before": self._bytes_before,
        }
        self._fraction = 0.0

    def run(self) -> str:
        try:
            loaded = self._load()
        except ModelLoadError as error:
            reason = f"{self._spec.version_key} could not be loaded: {error}"
            logger.error(reason)
            crashes = self._replica.crashes + 1
            self._observe(Replica.State.FAILED, reason=reason, crashes=crashes, load_failed=True)
            self._claims.leave()
            return "failed to load"
        self._become_ready(loaded)
        host = Host(
            self._claims,
            loaded.engine,
            self._host_config(loaded),
            abort=loaded.abort,
            facts=self._facts,
            stop_requested=stop_requested,
            on_draining=lambda: self._observe(Replica.State.DRAINING),
            free=loaded.close,
        )
        # This frees the memory. STOPPED lets the controller give the memory to another replica.
        host.run()
        # Crashes are forgotten only if it has served an item: items may be what kills it.
        reset = {"crashes": 0} if host.has_served else {}
        nothing = {"reason": "", "process_id": None, "resident_bytes": None, "device": ""}
        self._observe(Replica.State.STOPPED, **nothing, **reset)
        return "drained"

    def _become_ready(self, loaded: Loaded) -> None:
        loaded_bytes = private_bytes() - self._bytes_before
        # The controller records these facts when this process cannot.
        self._facts |= {
            "resident_bytes": loaded_bytes,
            "device": loaded.device,
            "notice": loaded.notice,
        }
        self._observe(
            Replica.State.READY,
            resident_bytes=loaded_bytes,
            load_fraction=1.0,
            reason=loaded.notice,
            device=loaded.device,
        )
        key = self._spec.version_key
        logger.info("%s is ready, %d MiB on %s", key, loaded_bytes >> 20, loaded.device)
        if loaded.notice:
            logger.warning("%s: %s", key, loaded.notice)

    def _host_config(self, loaded: Loaded) -> HostConfig:
        return HostConfig(
            max_items=loaded.max_items,
            heartbeat_seconds=self._settings.heartbeat_seconds,
            lease_seconds=self._settings.lease_seconds,
            stop_seconds=STOP_SECONDS,
            run_seconds=self._settings.request_timeout_seconds,
            step_timeout_seconds=self._settings.step_timeout_seconds,
            stream_ttl_seconds=self._settings.stream_ttl_seconds,
        )

    def _load(self) -> Loaded:
        """Load in a daemon thread, with heartbeats in this one."""
        future: Future[Loaded] = Future()
        priority = LoadPriority()

        def load() -> None:
            try:
                priority.lower()
                import_runtime()
                spec = self._checked_spec()
                future.set_result(
                    load_engine(spec, self._settings, self._note_fraction, priority.idle_only)
                )
            except BaseException as error:
                future.set_exception(error)

        threading.Thread(target=load, name="load", daemon=True).start()
        self._watch(future, priority)
        priority.restore()
        return future.result()

    def _watch(self, future: Future[Loaded], priority: LoadPriority) -> None:
        """Send heartbeats and record progress until the load has ended."""
        began_at = time.monotonic()
        recorded, most_bytes = 0.0, 0
        ttl_seconds = heartbeat_ttl_seconds(self._settings.lease_seconds)
        while True:
            try:
                self._claims.heartbeat(ready=False, ttl_seconds=ttl_seconds, facts=self._facts)
            except (redis.ConnectionError, redis.TimeoutError) as error:
                logger.warning("no heartbeat, Redis is out of reach: %s", error)
            wait([future], self._settings.heartbeat_seconds)
            if future.done():
                return
            priority.review(time.monotonic() - began_at)
            # For a mapped file llama.cpp reports nothing before all of it has been read.
            held_bytes = resident_bytes()
            if self._fraction != recorded or held_bytes >= most_bytes + PROGRESS_BYTES:
                recorded, most_bytes = self._fraction, max(most_bytes, held_bytes)
                _record("progress", partial(observed.note_progress, self._id, recorded))

    def _note_fraction(self, fraction: float) -> None:
        self._fraction = fraction

    def _checked_spec(self) -> ModelSpec:
        """The spec, without its draft model if that model's file fails the check.

        Raises ``ModelLoadError`` when the version's file is absent or has changed since its check.
        """

        def report(done_bytes: int, total_bytes: int | None, _phase: str) -> None:
            self._fraction = done_bytes / total_bytes if total_bytes else 0.0

        version, spec = self._replica.version, self._spec
        try:
            require_checked(version, Path(spec.path), report)
        except RegistryError as error:
            raise ModelLoadError(f"On {self._replica.node.name}: {error}") from error
        draft = version.usable_draft
        if draft is None or spec.draft_path is None:
            return spec
        try:
            require_checked(draft, Path(spec.draft_path), report)
        except RegistryError as error:
            logger.warning("%s serves without its draft model: %s", version.key, error)
            return replace(spec, draft_path=None)
        return spec

    def _observe(self, state: str, **fields: Any) -> None:
        _record(state, lambda: observed.observe(self._id, state, **fields))


def _record(what: str, write: Callable[[], object]) -> None:
    """Write to the registry; without the database a model continues to serve."""
    try:
        # This thread lives for days: the connection it used last may be dead by now.
        django.db.close_old_connections()
        write()
    except django.db.Error as error:
        logger.warning("could not record %s, the controller will: %s", what, error)
