"""The work of the controller that keeps the ledger complete."""

import logging
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Final

import django.db
from django.utils import timezone
from redis import Redis
from redis.exceptions import RedisError

from caching.answers import cached_answers, forget_outdated
from caching.semantic import store
from inference.conf import InferenceSettings
from inference.ledger.fleet_samples import FleetSamples
from inference.ledger.late_prices import correct_late_prices
from inference.ledger.left_runs import blank_old_texts, settle_left_runs
from inference.ledger.orphans import settle_orphans, write_unwritten
from inference.queue import keys
from metrics.ledger.keep import Upkeep
from metrics.ledger.refusals import copy_refusals

logger = logging.getLogger(__name__)

EVERY_SECONDS: Final = 5.0
LONGEST_PAUSE_SECONDS: Final = 60.0
# A run, its time in the queue, and some minutes for web processes that lag behind.
SLACK_SECONDS: Final = 300.0
CACHE_SECONDS: Final = 60.0


def keep_ledger(client: Redis, settings: InferenceSettings, stop: threading.Event) -> None:
    """Settle orphans, write what waits in Redis, compute totals and sample the fleet, until a stop.

    All of it may run in several controllers at once.
    """
    longest = settings.queue_timeout_seconds + settings.request_timeout_seconds + SLACK_SECONDS
    written = timedelta(seconds=longest + SLACK_SECONDS)
    samples, upkeep = FleetSamples(), Upkeep()

    def forget_old() -> None:
        unloaded = set() if settings.cache_keeps_unloaded else _unloaded(client)
        forget_outdated(client, unloaded)
        for version in unloaded:
            store.forget(version=version)
        store.expire(timezone.now())
        blank_old_texts(settings)

    duties: list[Callable[[], object]] = [
        lambda: settle_orphans(client, longest, is_free=settings.cache_billing == "free"),
        lambda: settle_left_runs(client, settings),
        lambda: write_unwritten(client),
        lambda: correct_late_prices(timezone.now(), written),
        lambda: copy_refusals(client),
        lambda: upkeep.run(timezone.now()),
        lambda: samples.take(timezone.now()),
        _at_most_every(CACHE_SECONDS, forget_old),
    ]
    pause = EVERY_SECONDS
    while not stop.wait(pause):
        began = time.monotonic()
        for duty in duties:
            try:
                duty()
            except (django.db.OperationalError, django.db.InterfaceError, RedisError) as error:
                logger.warning("the ledger waits for Postgres and Redis: %s", error)
                django.db.connection.close()
                break
            except Exception:
                logger.exception("a part of the ledger failed, will retry")
        # Totals of a full quarter of an hour take seconds: they may use a tenth of the time.
        pause = min(max(EVERY_SECONDS, 9 * (time.monotonic() - began)), LONGEST_PAUSE_SECONDS)
    django.db.connection.close()


def _unloaded(client: Redis) -> set[str]:
    """The versions with cached answers that no host has in memory."""
    versions = {about.version for _, about in cached_answers(client)} | store.versions()
    return {version for version in versions if not client.exists(keys.ready(version))}


def _at_most_every(seconds: float, duty: Callable[[], None]) -> Callable[[], None]:
    due_at = 0.0

    def do() -> None:
        nonlocal due_at
        if time.monotonic() >= due_at:
            due_at = time.monotonic() + seconds
            duty()

    return do
