"""The thread of the controller that keeps the ledger complete."""

import logging
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Final

import django.db
from django.utils import timezone
from redis import Redis
from redis.exceptions import RedisError

from inference.conf import InferenceSettings
from inference.ledger.fleet_samples import FleetSamples
from inference.ledger.late_prices import correct_late_prices
from inference.ledger.orphans import Orphans
from metrics.ledger.keep import Upkeep
from metrics.ledger.refusals import copy_refusals

logger = logging.getLogger(__name__)

EVERY_SECONDS: Final = 5.0
# A run, its time in the queue, and some minutes for web processes that lag behind.
SLACK_SECONDS: Final = 300.0


class Keeper(threading.Thread):
    """Settles orphans, writes what waits in Redis, computes totals and samples the fleet.

    All of it may run in several controllers at once.
    """

    def __init__(self, client: Redis, settings: InferenceSettings) -> None:
        super().__init__(name="ledger", daemon=True)
        longest = settings.queue_timeout_seconds + settings.request_timeout_seconds + SLACK_SECONDS
        orphans = Orphans(client, longest)
        written = timedelta(seconds=longest + SLACK_SECONDS)
        samples = FleetSamples(client)
        upkeep = Upkeep()
        self._stop_requested = threading.Event()
        self._duties: list[Callable[[], object]] = [
            orphans.settle,
            orphans.write,
            lambda: correct_late_prices(timezone.now(), written),
            lambda: copy_refusals(client),
            lambda: upkeep.run(timezone.now()),
            lambda: samples.take(timezone.now()),
        ]

    def run(self) -> None:
        while not self._stop_requested.wait(EVERY_SECONDS):
            for duty in self._duties:
                self._do(duty)
        django.db.connection.close()

    def stop(self) -> None:
        self._stop_requested.set()
        self.join()

    def _do(self, duty: Callable[[], object]) -> None:
        try:
            duty()
        except (django.db.OperationalError, django.db.InterfaceError, RedisError) as error:
            logger.warning("the ledger waits for Postgres and Redis: %s", error)
            django.db.connection.close()
        except Exception:
            logger.exception("a part of the ledger failed, will retry")
