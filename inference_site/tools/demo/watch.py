"""Observes memory during the traffic: reserved and used bytes, loads and evictions."""

import asyncio
import contextlib
import os
import random
import signal
import time
from collections.abc import Collection
from dataclasses import dataclass, field

import psutil

from inference.database import in_database
from models_registry.fleet.footprints import mapped_bytes
from models_registry.models import Replica
from models_registry.plan.facts import OCCUPYING

POLL_SECONDS = 0.1
STARTING = (Replica.State.STARTING, Replica.State.LOADING)
# A django-q worker with Django, before it loads a model.
BARE_PROCESS_BYTES = 60 << 20


@dataclass
class Watch:
    """Reads the fleet several times a second.

    ``peak_set_aside_bytes`` and ``peak_used_bytes`` are the largest sums over all replicas;
    ``breaches`` describes each moment at which one of them was above the budget.
    """

    budget_bytes: int
    kill_every_seconds: float = 0.0
    seed: int = 0
    loads: dict[str, list[float]] = field(default_factory=dict)
    evictions: dict[str, int] = field(default_factory=dict)
    breaches: list[str] = field(default_factory=list)
    peak_set_aside_bytes: int = 0
    peak_used_bytes: int = 0
    kills: list[str] = field(default_factory=list)
    _states: dict[int, tuple[str, float]] = field(default_factory=dict)

    async def run(self) -> None:
        chance = random.Random(self.seed)  # noqa: S311 - no secret
        kill_at = time.monotonic() + (self.kill_every_seconds or float("inf"))
        while True:
            replicas = await in_database(_replicas)
            self._note(replicas)
            if time.monotonic() >= kill_at and self._kill_one(replicas, chance):
                kill_at = time.monotonic() + self.kill_every_seconds
            await asyncio.sleep(POLL_SECONDS)

    def _note(self, replicas: Collection[Replica]) -> None:
        set_aside = sum(
            sum(replica.needed_bytes.values()) for replica in replicas if replica.state in OCCUPYING
        )
        used = sum(_used_bytes(replica) for replica in replicas)
        self.peak_set_aside_bytes = max(self.peak_set_aside_bytes, set_aside)
        self.peak_used_bytes = max(self.peak_used_bytes, used)
        for name, count in (("set aside", set_aside), ("used", used)):
            if count > self.budget_bytes:
                self.breaches.append(f"{count} bytes {name} of {self.budget_bytes}")
        for replica in replicas:
            self._follow(replica)

    def _follow(self, replica: Replica) -> None:
        now = time.monotonic()
        before, since = self._states.get(replica.pk, (replica.state, now))
        key = replica.version.key
        if replica.state == before:
            self._states.setdefault(replica.pk, (replica.state, now))
            return
        if before in STARTING and replica.state in STARTING:
            self._states[replica.pk] = (replica.state, since)
            return
        if before in STARTING and replica.state == Replica.State.READY:
            self.loads.setdefault(key, []).append(now - since)
        if before == Replica.State.READY and replica.desired == Replica.Desired.ABSENT:
            self.evictions[key] = self.evictions.get(key, 0) + 1
        self._states[replica.pk] = (replica.state, now)

    def _kill_one(self, replicas: Collection[Replica], chance: random.Random) -> bool:
        """Kill -9 a host that is loading, and the next time one that is draining.

        Never the same version twice in a row, nor one that has died and not served since: three
        such deaths are a crash loop. And each version only once while it drains: a request whose
        host dies twice fails by rule.
        """
        last = self.kills[-1] if self.kills else " "
        wanted = Replica.State.DRAINING if last.endswith("(loading)") else Replica.State.LOADING
        swapping = [
            one
            for one in replicas
            if one.process_id
            and one.state == wanted
            and not one.crashes
            and not last.startswith(f"{one.version.key} ")
            and (
                one.state == Replica.State.LOADING
                or f"{one.version.key} ({one.state})" not in self.kills
            )
        ]
        if not swapping:
            return False
        victim = chance.choice(swapping)
        with contextlib.suppress(ProcessLookupError):
            os.kill(victim.process_id or 0, signal.SIGKILL)
            self.kills.append(f"{victim.version.key} ({victim.state})")
        return True


def _replicas() -> list[Replica]:
    related = ("version__model", "version__draft_model__model", "node")
    return list(Replica.objects.select_related(*related))


def _used_bytes(replica: Replica) -> int:
    """Return the bytes of a replica's process beyond a bare worker's, with mapped weights."""
    if not replica.process_id or replica.state not in OCCUPYING:
        return 0
    try:
        memory = psutil.Process(replica.process_id).memory_info()
    except psutil.Error:
        return 0
    private = max(0, memory.rss - memory.shared - BARE_PROCESS_BYTES)
    return private + (mapped_bytes(replica.version, replica.node) if private else 0)
