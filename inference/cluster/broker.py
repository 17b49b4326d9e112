"""django-q's Redis broker, made to survive an outage of Redis."""

import logging
import time

import redis
from django_q.brokers.redis_broker import Redis as RedisBroker
from redis.backoff import NoBackoff
from redis.retry import Retry

from inference.cluster.ipc import KernelQueue

logger = logging.getLogger(__name__)

# Bounds every call; the longest regular wait is the one second of ``dequeue``.
_SOCKET_TIMEOUT_SECONDS = 3.0
_OUTAGE_PAUSE_SECONDS = 0.25
_LONGEST_PAUSE_SECONDS = 0.1


class ResilientBroker(RedisBroker):
    """A broker that survives an outage of Redis, and pops no task while one is still untaken.

    The retries of the Redis client are off because each would block the sentinel for seconds.
    """

    def __init__(self, list_key: str | None = None) -> None:
        super().__init__(list_key=list_key)
        pool = self.connection.connection_pool
        pool.connection_kwargs.update(
            socket_timeout=_SOCKET_TIMEOUT_SECONDS,
            socket_connect_timeout=_SOCKET_TIMEOUT_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )
        self.task_queue: KernelQueue | None = None
        self._reachable = True

    def dequeue(self) -> list[tuple[None, bytes]] | None:
        """Pop one task, waiting up to a second for it.

        Returns None without a task, while one is untaken, and while Redis does not answer.
        """
        if not self._task_queue_is_empty():
            return None
        try:
            tasks: list[tuple[None, bytes]] | None = super().dequeue()
        except redis.RedisError as error:
            if self._reachable:
                logger.warning("Redis is away (%s); %s waits for it", error, self.list_key)
            self._reachable = False
            time.sleep(_OUTAGE_PAUSE_SECONDS)
            return None
        if not self._reachable:
            logger.warning("Redis is back; %s takes tasks again", self.list_key)
        self._reachable = True
        return tasks

    def _task_queue_is_empty(self) -> bool:
        """Whether the task queue is empty, or becomes so within a quarter of a second."""
        pause_seconds = 0.001
        while self.task_queue is not None and not self.task_queue.empty():
            if pause_seconds > _LONGEST_PAUSE_SECONDS:
                return False
            time.sleep(pause_seconds)
            pause_seconds *= 2
        return True
