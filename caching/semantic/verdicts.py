"""Comparisons of answers: record them, decide them, and stop a cache that is wrong too often."""

import time
from collections.abc import Iterable
from typing import Final

from django.db import connection, transaction
from django.db.models import Count, Q

from caching.models import CacheVerdict, SemanticEntry
from caching.semantic.shadow import Tally, agreement
from caching.semantic.store import FIND_MILLISECONDS, WRITE_MILLISECONDS, tolerant

_TALLY_SECONDS: Final = 10.0
_tallies: dict[tuple[str, str], tuple[float, Tally | None]] = {}
_SETTLE: Final = """
    WITH settled AS (
        UPDATE caching_semanticentry AS entry SET state = (
            SELECT CASE WHEN bool_or(NOT agrees) THEN 'refused'
                WHEN bool_or(agrees IS NULL) THEN 'suspect' ELSE 'live' END
            FROM caching_cacheverdict WHERE entry_id = entry.id AND source <> 'hit'
        ) WHERE id = ANY(%s) RETURNING id, state, expires_at
    )
    UPDATE caching_semanticvector SET live_until = CASE state WHEN 'live' THEN expires_at END
    FROM settled WHERE entry_id = settled.id
"""


def record(verdict: CacheVerdict, likeness: float | None) -> None:
    """Store a new hit, with the cosine of the two answers if they were compared.

    An entry that does not agree is not served until a person decides. Its own values set the
    result, version and preset.
    """

    def store() -> None:
        entry = SemanticEntry.objects.filter(id__in=[verdict.entry_id]).first()
        if entry is None:
            return  # forgotten meanwhile
        verdict.version_key, verdict.preset = entry.version_key, entry.preset
        if likeness is None:
            verdict.source = CacheVerdict.Source.HIT
            verdict.save(force_insert=True)
            return
        verdict.agrees = agreement(entry.answer_text, verdict.answer_text, likeness) or None
        verdict.save(force_insert=True)
        _settle([entry.pk])

    tolerant("comparison", WRITE_MILLISECONDS, store)


def decide(verdict_ids: list[int], agrees: bool) -> int:
    """Note what a person found; entries without an open or wrong comparison are served again."""
    chosen = CacheVerdict.objects.filter(id__in=verdict_ids)
    with transaction.atomic():
        count = chosen.update(agrees=agrees, source=CacheVerdict.Source.PERSON)
        _settle(chosen.values_list("entry", flat=True))
    _tallies.clear()
    return count


def tallies(**pair: str) -> list[Tally]:
    """Comparisons by version and preset."""
    wrong = Count("id", filter=Q(agrees=None) | Q(agrees=False))
    compared = CacheVerdict.objects.exclude(source=CacheVerdict.Source.HIT)
    pairs = compared.filter(**pair).values_list("version_key", "preset")
    return [Tally(*row) for row in pairs.annotate(comparisons=Count("id"), wrong=wrong)]


def tally(version_key: str, preset: str) -> Tally | None:
    """Comparisons of a version and preset, some seconds old; None when Postgres does not tell."""

    def count() -> Tally:
        rows = tallies(version_key=version_key, preset=preset)
        return rows[0] if rows else Tally(version_key, preset, 0, 0)

    now = time.monotonic()
    read_at, found = _tallies.get((version_key, preset), (0.0, None))
    if found is None or now - read_at >= _TALLY_SECONDS:
        found = tolerant("tally", FIND_MILLISECONDS, count)
        _tallies[version_key, preset] = now, found
    return found


def is_stopped(version_key: str, preset: str) -> bool:
    """Tell whether too many hits are wrong, or nobody knows.

    A stop ends when a person decides that comparisons agree, or deletes them.
    """
    found = tally(version_key, preset)
    return found is None or found.is_stopped


def _settle(entries: Iterable[int | None]) -> None:
    with connection.cursor() as cursor:
        cursor.execute(_SETTLE, [[entry for entry in entries if entry is not None]])
