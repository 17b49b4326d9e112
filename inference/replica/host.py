"""The loop of a host: claim → engine → publish, with a heartbeat, until drained or stopped."""

import logging
import os
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import redis

from inference.engine.engine_thread import EngineThread, StepEngine
from inference.messages import Cancel, Control, Drain, Frame
from inference.queue.blame import may_claim_fresh, may_claim_suspect
from inference.queue.claims import LAST, FencedError, HostClaims, Numbered
from inference.replica.flights import Flights
from inference.replica.process_memory import private_bytes
from inference.replica.token_rate import TokenRate

logger = logging.getLogger(__name__)

# How long the loop waits for the engine before it looks for messages again.
POLL_SECONDS = 0.02
# An idle host is rung for what comes. So long it sleeps at most, for it may be told to stop; and so
# long after a look whether it missed a bell it looks again, with the next heartbeat.
IDLE_WAIT_SECONDS, IDLE_LOOK_SECONDS = 1.0, 0.9
REDIS_RETRY_SECONDS = 0.2
# Tokens wait up to so long to be published together; longer from this many streams on.
COALESCE_SECONDS = 0.02
BUSY_FLIGHTS = 4
BUSY_COALESCE_SECONDS = 0.05
ANY_PRIORITY, HIGHEST_PRIORITY = -1, 3
# Exit status of a host whose model call never returned (EX_SOFTWARE).
STUCK_EXIT_STATUS = 70


@dataclass(frozen=True)
class HostConfig:
    """How a host behaves; times in seconds."""

    max_items: int
    heartbeat_seconds: float
    lease_seconds: float
    stop_seconds: float
    run_seconds: float
    step_timeout_seconds: float
    stream_ttl_seconds: int


class Host:
    """Serves one loaded engine.

    ``run`` returns when a ``Drain`` message came and all work was done, or when ``stop_requested``
    turned true; then work still running after ``stop_seconds`` is left for others to continue.

    Args:
        claims: the host's view of Redis.
        engine: what computes; its thread is started and stopped here.
        abort: stops a decode in progress.
        facts: constant facts shown with each heartbeat.
        stop_requested: asked in every round.
        on_draining: told once when draining begins.
        free: gives the model's memory back once all work is done; it may take long.
    """

    def __init__(
        self,
        claims: HostClaims,
        engine: StepEngine,
        config: HostConfig,
        *,
        abort: Callable[[], None] | None,
        facts: dict[str, Any],
        stop_requested: Callable[[], bool],
        on_draining: Callable[[], None],
        free: Callable[[], None] = lambda: None,
    ) -> None:
        self._claims = claims
        self._engine = engine
        self._config = config
        self._facts = facts
        self._stop_requested = stop_requested
        self._on_draining = on_draining
        self._free = free
        self._thread = EngineThread(engine, abort)
        self._flights = Flights()
        self._token_rate = TokenRate()
        self._unsent: list[Numbered] = []
        self._published_at = 0.0
        self._draining = False
        self._stop_at: float | None = None
        self._next_heartbeat_at = 0.0
        self._look_at = 0.0
        self._may_hold_unknown = True
        self._redis_lost = False

    @property
    def has_served(self) -> bool:
        """Whether it has brought any work to its end."""
        return self._flights.served > 0

    def run(self) -> None:
        """Serve. Raises ``FencedError`` when given up for dead, or what ended the engine."""
        self._thread.start()
        try:
            while not self._is_done():
                try:
                    self._round()
                    self._redis_lost = False
                except redis.RedisError as error:
                    # Also "out of memory" and "read-only": no fault of what runs here.
                    self._on_redis_lost(error)
        except FencedError:
            raise  # others have the work already
        except BaseException:
            self._leave_work_behind(crashed=True)
            raise
        if self._flights or self._unsent:
            self._leave_work_behind(crashed=False)
            self._thread.stop()
            return
        self._thread.stop()
        self._free_memory()
        self._claims.leave()

    def _free_memory(self) -> None:
        """Free the model while heartbeats go on: without any the host would be taken for dead."""
        thread = threading.Thread(target=self._free, name="free")
        thread.start()
        while thread.is_alive():
            try:
                self._heartbeat()
            except redis.RedisError as error:
                logger.warning("no heartbeat, Redis is out of reach: %s", error)
            thread.join(self._config.heartbeat_seconds)

    def _round(self) -> None:
        """Once round the loop."""
        self._watch_engine()
        self._heartbeat()
        self._collect(wait_seconds=POLL_SECONDS if self._flights else 0)
        if self._flights or self._unsent or time.monotonic() >= self._look_at:
            self._exchange()
        if not self._flights and not self._unsent and not self._is_done():
            until_heartbeat = self._next_heartbeat_at - time.monotonic()
            patience = max(0.01, min(until_heartbeat, IDLE_WAIT_SECONDS))
            messages = self._claims.wait(patience)
            for message in messages or ():
                self._obey(message)
            if messages is not None:
                self._look_at = 0.0

    def _exchange(self) -> None:
        """Publish what there is to send, and fetch what waits."""
        self._look_at = time.monotonic() + IDLE_LOOK_SECONDS
        pending = self._claims.publish(self._unsent, self._config.stream_ttl_seconds)
        if self._unsent:
            self._published_at = time.monotonic()
            self._unsent.clear()
        if pending.messages:
            for message in self._claims.controls():
                self._obey(message)
        if pending.items and not self._draining and self._stop_at is None:
            self._look_at = 0.0
            self._claim()

    def _claim(self) -> None:
        self._may_hold_unknown = True
        running = self._flights.running
        if not may_claim_fresh(running):
            return
        room, above_priority = self._room()
        if room < 1:
            return
        items, ended = self._claims.claim(room, may_claim_suspect(running), above_priority)
        for item, waited_seconds in items:
            if item.id in self._flights.proof:
                continue  # Redis came back older than it was, with this still waiting
            self._flights.begin(item, waited_seconds, time.monotonic())
            self._thread.submit(item)
        self._unsent.extend(Numbered(item_id, 1, last, mark=LAST) for item_id, last in ended)

    def _room(self) -> tuple[int, int]:
        """How many items may be claimed, and above which priority.

        A full host still takes some that outrank what it runs: they take its place.
        """
        room = self._config.max_items - len(self._flights)
        if room > 0 and not self._engine.is_full:
            return room, ANY_PRIORITY
        lowest = self._flights.lowest_priority
        overflow = max(1, self._config.max_items // 4) if lowest < HIGHEST_PRIORITY else 0
        return min(room, 0) + overflow, lowest

    def _collect(self, wait_seconds: float) -> None:
        """Number what the engine has put out, waiting for it if there is work.

        The tokens of several steps are published together: what publishing costs here, in Redis
        and in the web process, is taken from the model's own cores.
        """
        outputs: list[tuple[str, Frame]] = []
        busy = len(self._flights) >= BUSY_FLIGHTS
        together_until = self._published_at + (BUSY_COALESCE_SECONDS if busy else COALESCE_SECONDS)
        try:
            outputs += self._thread.outputs.get(block=wait_seconds > 0, timeout=wait_seconds)
            while not self._flights.is_urgent(outputs):
                left = together_until - time.monotonic()
                outputs += self._thread.outputs.get(block=left > 0, timeout=max(left, 0.0))
            while True:
                outputs += self._thread.outputs.get_nowait()
        except queue.Empty:
            pass
        self._unsent.extend(self._flights.number(outputs))

    def _obey(self, message: Control) -> None:
        match message:
            case Cancel():
                self._thread.cancel(message.id)
            case Drain() if not self._draining:
                self._draining = True
                self._on_draining()

    def _is_done(self) -> bool:
        if self._stop_at is None and self._stop_requested():
            self._stop_at = time.monotonic() + self._config.stop_seconds
        if self._draining or self._stop_at is not None:
            if not self._flights and not self._unsent:
                return True
            return self._stop_at is not None and time.monotonic() >= self._stop_at
        return False

    def _heartbeat(self) -> None:
        now = time.monotonic()
        if now < self._next_heartbeat_at:
            return
        self._next_heartbeat_at = now + self._config.heartbeat_seconds
        # The web process stops what is late; this is for when it died before it could.
        for item_id in self._flights.overdue(now, self._config.run_seconds):
            self._thread.cancel(item_id)
        figures = {
            "running": self._engine.running_sequences,
            "waiting": self._engine.waiting_sequences,
            "used_cells": self._engine.used_cells,
            "private_bytes": private_bytes(),
            "tokens_per_second": self._token_rate.update(now, self._flights.generated_tokens),
        }
        self._claims.heartbeat(
            ready=not self._draining and self._stop_at is None,
            ttl_seconds=int(self._config.lease_seconds * 4) + 1,
            facts=self._facts | figures,
        )
        if not self._may_hold_unknown:
            return
        self._may_hold_unknown = bool(self._flights)
        known = {*self._flights.proof, *(entry.id for entry in self._unsent)}
        ttl_seconds = self._config.stream_ttl_seconds
        for item_id in self._claims.give_back_unknown(known, ttl_seconds):
            logger.warning("generation %s was claimed unknowingly: given back", item_id)

    def _watch_engine(self) -> None:
        if self._thread.failure is not None:
            raise self._thread.failure
        if self._thread.step_seconds(time.monotonic()) > self._config.step_timeout_seconds:
            logger.critical(
                "a model step runs longer than %s s: ending the process",
                self._config.step_timeout_seconds,
            )
            os._exit(STUCK_EXIT_STATUS)

    def _on_redis_lost(self, error: Exception) -> None:
        """Keep computing and keep what could not be sent; try again until Redis is back."""
        if not self._redis_lost:
            logger.warning("Redis is out of reach, trying again: %s", error)
        self._redis_lost = True
        self._next_heartbeat_at = self._look_at = 0.0
        self._may_hold_unknown = True
        time.sleep(REDIS_RETRY_SECONDS)
        try:
            self._claims.reassert(self._flights.proof)
        except redis.RedisError:
            return
        logger.warning("Redis is back")

    def _leave_work_behind(self, *, crashed: bool) -> None:
        try:
            self._claims.abandon(crashed=crashed)
        except redis.RedisError as error:
            logger.warning("could not give claims back, their lease will run out: %s", error)
