"""Predictions in the database: made, judged by the requests that came, counted, bounded."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Final

from django.db.models import Count, Q, Sum

from models_registry.catalogue.lookup import find_version
from models_registry.models import Prediction
from models_registry.plan.history import HORIZON_SECONDS, Arrivals
from models_registry.plan.prediction import Preload, judge
from models_registry.rules.outcome import Outcome

KEPT_ROWS: Final = 10_000
MEANING: Final = (
    "Hit: a request came in the predicted time. Waste: none came. Missed: a request came for a "
    "version that was out of memory and not predicted."
)
HEADERS: Final = (
    *("version", "hits", "wastes", "missed", "pending", "precision", "recall", "idle GiB·h"),
)
_GIB_HOUR: Final = (1 << 30) * 3600


@dataclass(frozen=True)
class Tally:
    hits: int = 0
    wastes: int = 0
    missed: int = 0
    pending: int = 0
    wasted_byte_seconds: float = 0.0

    @property
    def precision(self) -> float | None:
        judged = self.hits + self.wastes
        return self.hits / judged if judged else None

    @property
    def recall(self) -> float | None:
        asked = self.hits + self.missed
        return self.hits / asked if asked else None


def tallies(since: datetime) -> dict[str, Tally]:
    rows = (
        Prediction.objects.filter(made_at__gte=since)
        .order_by("version__model__slug", "version__label")
        .values_list("version__model__slug", "version__label")
        .annotate(
            hits=Count("id", filter=Q(outcome=Outcome.HIT)),
            wastes=Count("id", filter=Q(outcome=Outcome.WASTE)),
            missed=Count("id", filter=Q(outcome=Outcome.MISSED)),
            pending=Count("id", filter=Q(outcome=Outcome.PENDING)),
            wasted_byte_seconds=Sum("wasted_byte_seconds"),
        )
    )
    return {f"{slug}@{label}": Tally(*figures) for slug, label, *figures in rows}


def total(parts: Iterable[Tally]) -> Tally:
    parts = list(parts)
    return Tally(
        **{field.name: sum(getattr(one, field.name) for one in parts) for field in fields(Tally)}
    )


def rows_of(found: dict[str, Tally]) -> list[tuple[str, ...]]:
    rows = []
    for key, tally in {**found, "all": total(found.values())}.items():
        counts = (tally.hits, tally.wastes, tally.missed, tally.pending)
        shares = ("-" if one is None else f"{one:.0%}" for one in (tally.precision, tally.recall))
        rows.append((key, *map(str, counts), *shares, gib_hours(tally.wasted_byte_seconds)))
    return rows


def gib_hours(byte_seconds: float) -> str:
    return f"{byte_seconds / _GIB_HOUR:.2f}"


def open_predictions(now: datetime) -> list[Prediction]:
    rows = Prediction.objects.select_related("version__model")
    return list(rows.filter(Q(outcome=Outcome.PENDING) | Q(until__gt=now)))


def drop_unwatched(since: datetime) -> int:
    """Delete the pending predictions made before ``since``, whose requests nobody has counted."""
    pending = Prediction.objects.filter(outcome=Outcome.PENDING, made_at__lt=since)
    return pending.delete()[0]


def note_preloads(preloads: Iterable[Preload], now: datetime, *, acted_on: bool) -> None:
    until = now + timedelta(seconds=HORIZON_SECONDS)
    for one in preloads:
        fields = {"probability": one.probability, "needed_bytes": one.needed_bytes}
        _note(one.version, made_at=now, until=until, acted_on=acted_on, **fields)


def note_missed(version_key: str, now: datetime, probability: float, needed_bytes: int) -> None:
    fields = {"probability": probability, "needed_bytes": needed_bytes, "outcome": Outcome.MISSED}
    _note(version_key, made_at=now, until=now, acted_on=False, **fields)


def settle(
    predictions: Iterable[Prediction],
    arrivals: Iterable[Arrivals],
    now: datetime,
    grace_seconds: float,
) -> None:
    """Judge pending predictions; requests become known at most ``grace_seconds`` late."""
    asked = defaultdict(list)
    for one in arrivals:
        asked[one.version].append(one.first_at)
    for row in predictions:
        if row.outcome != Outcome.PENDING:
            continue
        made_at, until = row.made_at.timestamp(), row.until.timestamp()
        within = [at for at in asked[row.version.key] if made_at <= at < until]
        outcome, idle_seconds = judge(
            made_at, until, min(within, default=None), now.timestamp(), grace_seconds
        )
        if outcome != Outcome.PENDING:
            row.outcome = outcome
            row.wasted_byte_seconds = row.needed_bytes * idle_seconds
            row.save(update_fields=["outcome", "wasted_byte_seconds"])


def _note(version_key: str, **fields: object) -> None:
    """Add a row, unless its version is gone, and drop the oldest beyond ``KEPT_ROWS``."""
    version = find_version(version_key)
    if version is None:
        return
    row = Prediction.objects.create(version=version, **fields)
    Prediction.objects.filter(pk__lte=row.pk - KEPT_ROWS).delete()
