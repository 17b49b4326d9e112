"""The loop of a host: claim → engine → publish, with heartbeats, until drained or stopped."""

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
from inference.messages import Cancel, Control, Drain, Frame, run_id_of
from inference.queue.blame import may_claim_fresh, may_claim_suspect
from inference.queue.claims import LAST, FencedError, HostClaims, Numbered
from inference.replica.claimed_items import ClaimedItems
from inference.replica.process_memory import private_bytes

logger = logging.getLogger(__name__)

# How long the loop waits for the engine before it looks for messages again.
POLL_SECONDS = 0.02
# An idle host is woken for new work. It sleeps at most IDLE_WAIT_SECONDS, because it may be told to
# stop, and looks for missed work with the first heartbeat after IDLE_LOOK_SECONDS.
IDLE_WAIT_SECONDS, IDLE_LOOK_SECONDS = 1.0, 0.9
REDIS_RETRY_SECONDS = 0.2
# Tokens wait this long to be published together, and longer from BUSY_ITEMS streams on.
COALESCE_SECONDS = 0.02
BUSY_ITEMS = 4
BUSY_COALESCE_SECONDS = 0.05
ANY_PRIORITY, HIGHEST_PRIORITY = -1, 3
# Exit status of a host whose model call never returned (EX_SOFTWARE).
STUCK_EXIT_STATUS = 70


@dataclass(frozen=True)
class HostConfig:
    max_items: int
    heartbeat_seconds: float
    lease_seconds: float
    stop_seconds: float
    run_seconds: float
    step_timeout_seconds: float
    stream_ttl_seconds: int


def heartbeat_ttl_seconds(lease_seconds: float) -> int:
    """How long Redis keeps a host's facts after its last heartbeat."""
    return int(lease_seconds * 4) + 1


class Host:
    """Serves one loaded engine.

    Args:
        abort: stops a decode in progress.
        facts: constant facts in each heartbeat.
        stop_requested: asked in every round.
        on_draining: called once when draining begins.
        free: frees the model's memory once all work is done; may take long.
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
        self._items = ClaimedItems(facts.get("weights", ""))
        self._unsent: list[Numbered] = []
        self._published_at = 0.0
        self._draining = False
        self._stop_at: float | None = None
        self._next_heartbeat_at = 0.0
        self._next_look_at = 0.0
        self._may_have_lost_replies = True
        self._redis_lost = False

    @property
    def has_served(self) -> bool:
        return self._items.served > 0

    def run(self) -> None:
        """Serve until drained, or until ``stop_requested`` and for at most ``stop_seconds`` more.

        Raises ``FencedError`` when fenced, or the exception that ended the engine.
        """
        self._thread.start()
        try:
            while not self._is_done():
                try:
                    self._round()
                    self._redis_lost = False
                except redis.RedisError as error:
                    # Includes "out of memory" and "read-only", which are not faults of this host.
                    self._on_redis_lost(error)
        except FencedError:
            raise  # other hosts have the work already
        except BaseException:
            self._abandon_work(crashed=True)
            raise
        if self._items or self._unsent:
            self._abandon_work(crashed=False)
            self._thread.stop()
            return
        self._thread.stop()
        self._free_memory()
        self._claims.leave()

    def _free_memory(self) -> None:
        """Free the model while heartbeats continue: without them the host would be fenced."""
        thread = threading.Thread(target=self._free, name="free")
        thread.start()
        while thread.is_alive():
            try:
                self._heartbeat()
            except redis.RedisError as error:
                logger.warning("no heartbeat, Redis is out of reach: %s", error)
            thread.join(self._config.heartbeat_seconds)

    def _round(self) -> None:
        self._check_engine()
        self._heartbeat()
        self._collect(wait_seconds=POLL_SECONDS if self._items else 0)
        if self._items or self._unsent or time.monotonic() >= self._next_look_at:
            self._exchange()
        if not self._items and not self._unsent and not self._is_done():
            until_heartbeat = self._next_heartbeat_at - time.monotonic()
            patience = max(0.01, min(until_heartbeat, IDLE_WAIT_SECONDS))
            messages = self._claims.wait(patience)
            for message in messages or ():
                self._handle(message)
            if messages is not None:
                self._next_look_at = 0.0

    def _exchange(self) -> None:
        self._next_look_at = time.monotonic() + IDLE_LOOK_SECONDS
        pending = self._claims.publish(self._unsent, self._config.stream_ttl_seconds)
        if self._unsent:
            self._published_at = time.monotonic()
            self._unsent.clear()
        if pending.messages:
            for message in self._claims.controls():
                self._handle(message)
        if pending.items and not self._draining and self._stop_at is None:
            self._next_look_at = 0.0
            self._claim()

    def _claim(self) -> None:
        self._may_have_lost_replies = True
        running = self._items.running
        if not may_claim_fresh(running):
            return
        room, above_priority = self._config.max_items - len(self._items), ANY_PRIORITY
        if room < 1 or self._engine.is_full:
            # A full host still claims some items of higher priority: they preempt what it runs.
            above_priority = self._items.lowest_priority
            preempts = above_priority < HIGHEST_PRIORITY
            room = min(room, 0) + (max(1, self._config.max_items // 4) if preempts else 0)
        if room < 1:
            return
        claimed, ended = self._claims.claim(room, may_claim_suspect(running), above_priority)
        for item, waited_seconds in claimed:
            if item.id in self._items.proof:
                continue  # Redis was restored to an older state, with this item still waiting
            self._items.begin(item, waited_seconds, time.monotonic())
            self._thread.submit(item)
        self._unsent.extend(Numbered(item_id, 1, last, mark=LAST) for item_id, last in ended)

    def _collect(self, wait_seconds: float) -> None:
        """Number the frames from the engine, waiting for some if work is running."""
        # Frames of several steps are published together, because publishing takes processor time
        # from the model: here, in Redis and in the web process.
        outputs: list[tuple[str, Frame]] = []
        busy = len(self._items) >= BUSY_ITEMS
        together_until = self._published_at + (BUSY_COALESCE_SECONDS if busy else COALESCE_SECONDS)
        try:
            outputs += self._thread.outputs.get(block=wait_seconds > 0, timeout=wait_seconds)
            while not self._items.is_urgent(outputs):
                left = together_until - time.monotonic()
                outputs += self._thread.outputs.get(block=left > 0, timeout=max(left, 0.0))
            while True:
                outputs += self._thread.outputs.get_nowait()
        except queue.Empty:
            pass
        self._unsent.extend(self._items.number(outputs))

    def _handle(self, message: Control) -> None:
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
            if not self._items and not self._unsent:
                return True
            return self._stop_at is not None and time.monotonic() >= self._stop_at
        return False

    def _heartbeat(self) -> None:
        now = time.monotonic()
        if now < self._next_heartbeat_at:
            return
        self._next_heartbeat_at = now + self._config.heartbeat_seconds
        # The web process cancels overdue generations; this is for the case that it has died.
        for item_id in self._items.overdue(now, self._config.run_seconds):
            self._thread.cancel(item_id)
        figures = {
            "running": self._engine.running_sequences,
            "waiting": self._engine.waiting_sequences,
            "used_cells": self._engine.used_cells,
            "private_bytes": private_bytes(),
            "tokens_per_second": self._items.tokens_per_second(now),
        }
        self._claims.heartbeat(
            ready=not self._draining and self._stop_at is None,
            ttl_seconds=heartbeat_ttl_seconds(self._config.lease_seconds),
            facts=self._facts | figures,
        )
        if not self._may_have_lost_replies:
            return
        self._may_have_lost_replies = bool(self._items)
        known = {*self._items.proof, *(entry.id for entry in self._unsent)}
        ttl_seconds = self._config.stream_ttl_seconds
        for item_id in self._claims.give_back_unknown(known, ttl_seconds):
            logger.warning(
                "the reply to a claim of generation %s was lost: requeued",
                item_id,
                extra={"run_id": run_id_of(item_id)},
            )

    def _check_engine(self) -> None:
        if self._thread.failure is not None:
            raise self._thread.failure
        if self._thread.step_seconds(time.monotonic()) > self._config.step_timeout_seconds:
            logger.critical(
                "a model step runs longer than %s s: ending the process",
                self._config.step_timeout_seconds,
            )
            os._exit(STUCK_EXIT_STATUS)

    def _on_redis_lost(self, error: Exception) -> None:
        """Keep computing and keep unsent frames; try again until Redis is back."""
        if not self._redis_lost:
            logger.warning("Redis is out of reach, trying again: %s", error)
        self._redis_lost = True
        self._next_heartbeat_at = self._next_look_at = 0.0
        self._may_have_lost_replies = True
        time.sleep(REDIS_RETRY_SECONDS)
        try:
            self._claims.reassert(self._items.proof)
        except redis.RedisError:
            return
        logger.warning("Redis is back")

    def _abandon_work(self, *, crashed: bool) -> None:
        try:
            self._claims.abandon(crashed=crashed)
        except redis.RedisError as error:
            logger.warning("could not give claims back, their lease will run out: %s", error)
