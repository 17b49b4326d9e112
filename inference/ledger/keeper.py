"""The thread of the controller that keeps the ledger complete."""

import logging
import threading
from collections.abc import Callable
from functools import partial
from typing import Final

import django.db
from django.utils import timezone
from redis import Redis
from redis.exceptions import RedisError

from inference.conf import InferenceSettings
from inference.ledger.fleet_samples import FleetSamples
from inference.ledger.orphans import settle_orphans, write_unwritten
from metrics.ledger.keep import keep
from metrics.ledger.refusals import copy_refusals

logger = logging.getLogger(__name__)

EVERY_SECONDS: Final = 5.0
# A run, its time in the queue, and some minutes for web processes that lag behind.
SLACK_SECONDS: Final = 300.0
# Postgres takes back what a duty of the thread has not committed by then.
STOP_SECONDS: Final = 5.0


class Keeper(threading.Thread):
    """Settles orphans, writes what waits in Redis, computes totals and samples the fleet.

    All of it may run in several controllers at once.
    """

    def __init__(self, client: Redis, settings: InferenceSettings) -> None:
        super().__init__(name="ledger", daemon=True)
        longest = settings.queue_timeout_seconds + settings.request_timeout_seconds + SLACK_SECONDS
        samples = FleetSamples()
        self._stop_requested = threading.Event()
        self._duties: list[Callable[[], object]] = [
            partial(settle_orphans, client, longest),
            partial(write_unwritten, client),
            partial(copy_refusals, client),
            lambda: keep(timezone.now()),
            lambda: samples.take(timezone.now()),
        ]

    def run(self) -> None:
        while not self._stop_requested.wait(EVERY_SECONDS):
            for duty in self._duties:
                self._do(duty)
        django.db.connection.close()

    def stop(self) -> None:
        self._stop_requested.set()
        self.join(STOP_SECONDS)

    def _do(self, duty: Callable[[], object]) -> None:
        try:
            duty()
        except (django.db.OperationalError, django.db.InterfaceError, RedisError) as error:
            logger.warning("the ledger waits for Postgres and Redis: %s", error)
            django.db.connection.close()
        except Exception:
            logger.exception("a part of the ledger failed, will retry")
