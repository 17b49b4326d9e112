"""``manage.py controller``: keep replicas as desired and requeue the work of dead hosts."""

import logging
import signal
import threading
from types import FrameType
from typing import Any

import django.db
import redis
from django.conf import settings
from django.core.management.base import BaseCommand

from inference.conf import inference_settings
from inference.controller.controller import Controller
from inference.ledger.keeper import keep_ledger

logger = logging.getLogger(__name__)

TICK_SECONDS = 0.5
STOP_SECONDS = 5.0


class Command(BaseCommand):
    help = "Start and stop model hosts as desired; requeue the work of dead ones. Stop: SIGTERM."

    def handle(self, *args: Any, **options: Any) -> None:
        stop = threading.Event()

        def on_signal(_number: int, _frame: FrameType | None) -> None:
            stop.set()

        signal.signal(signal.SIGINT, on_signal)
        signal.signal(signal.SIGTERM, on_signal)
        client: redis.Redis = redis.Redis.from_url(
            settings.REDIS_URL, socket_timeout=5, socket_connect_timeout=2
        )
        controller = Controller(client, inference_settings())
        ledger = threading.Thread(
            target=keep_ledger, args=(client, inference_settings(), stop), daemon=True
        )
        ledger.start()
        in_outage = False
        while not stop.wait(TICK_SECONDS):
            try:
                controller.attend()
            except (
                django.db.OperationalError,
                django.db.InterfaceError,
                redis.RedisError,
            ) as error:
                if not in_outage:
                    logger.warning("waiting for Postgres and Redis: %s", error)
                in_outage = True
                controller.note_outage()
                django.db.connection.close()
            except django.db.Error:
                # Not an outage: rows contradict each other, perhaps only for a moment.
                logger.exception("a tick of the controller failed, will retry")
            else:
                in_outage = False
        # Postgres takes back what the thread has not committed by then.
        ledger.join(STOP_SECONDS)
