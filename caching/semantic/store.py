"""The entries of the semantic cache: find, add, forget.

Requests do not wait long for this cache, and an error of the database is a miss.
"""

import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import cache
from typing import Final, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
from django.db import Error, connection, transaction
from django.db.models import Q, QuerySet

from caching.models import CacheVerdict, SemanticEntry, SemanticVector

logger = logging.getLogger(__name__)

Result = TypeVar("Result")
Vector = npt.NDArray[np.float32]
FIND_MILLISECONDS: Final = 60
WRITE_MILLISECONDS: Final = 2000
GROUP_ENTRIES: Final = 5000
_CANDIDATES: Final = 5
# An entry with an open comparison is not served, but stays for a person to see.
_EVIDENCE: Final = timedelta(days=30)
# The newest comparisons of each version and preset say whether its hits can be trusted; the newest
# hits are kept beside them.
_KEPT_VERDICTS: Final = 2000
_DELETE_OLD_VERDICTS: Final = """
    DELETE FROM caching_cacheverdict WHERE id IN (SELECT id FROM (
        SELECT id, row_number() OVER (
            PARTITION BY version_key, preset, source = 'hit' ORDER BY at DESC, id DESC)
        FROM caching_cacheverdict) AS newest WHERE row_number > %s)
"""


class Hit(NamedTuple):
    """An answer that may be given, and the cosine of the two questions."""

    entry: SemanticEntry
    similarity: float


def tolerant(action: str, milliseconds: int, work: Callable[[], Result]) -> Result | None:
    """Do ``work`` in a transaction with a time limit per statement.

    An error of the database is a line in the log, and the result is None.
    """
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            # A lost hit or entry costs less than the wait for the disk.
            cursor.execute(
                "SELECT set_config('statement_timeout', %s, true), "
                "set_config('synchronous_commit', 'off', true)",
                [str(milliseconds)],
            )
            return work()
    except Error as error:
        # The lines after the first may quote a prompt.
        logger.warning("Semantic cache: %s failed: %s", action, str(error).partition("\n")[0])
        return None


@cache
def has_pgvector() -> bool:
    """Tell whether Postgres compares vectors; else NumPy does. A process finds out once."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT FROM pg_attribute WHERE attrelid = 'caching_semanticvector'::regclass "
            "AND attname = 'v' AND atttypid <> 'bytea'::regtype"
        )
        return cursor.fetchone() is not None


def find(
    partition: bytes,
    facts_digest: bytes,
    vector: Vector,
    floor: float,
    oldest: datetime,
    guard: Callable[[str], str],
) -> Hit | None:
    """Return the nearest entry that ``guard`` lets pass, out of few, and count the hit.

    ``guard`` gets an entry's question and returns why its answer must not be given, or "". No
    entry has a cosine below ``floor``, or was made before ``oldest``.
    """

    def search() -> Hit | None:
        nearest = _nearest([partition, facts_digest], vector)
        entries = SemanticEntry.objects.in_bulk([entry_id for entry_id, _ in nearest])
        for entry_id, similarity in nearest:
            entry = entries.get(entry_id)
            # No comparison with a similarity that is no number holds.
            if entry is None or not (similarity >= floor and entry.created_at >= oldest):
                continue
            if not guard(entry.prompt):
                _count_hit(entry_id)
                return Hit(entry, similarity)
        return None

    return tolerant("find", FIND_MILLISECONDS, search)


def add(entry: SemanticEntry, vector: Vector) -> bool:
    """Store a new entry in place of the one with its key; return whether it was stored.

    The key of an entry that is suspect or refused takes no new answer. A tenth of a full group
    makes room: the entries that were not hit for the longest time.
    """
    group = {"partition": bytes(entry.partition), "facts_digest": bytes(entry.facts_digest)}

    def replace() -> bool:
        same = SemanticEntry.objects.filter(key=entry.key)
        if same.exclude(state=SemanticEntry.State.LIVE).exists():
            return False
        _delete(same)
        entry.save(force_insert=True)
        with connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO caching_semanticvector "
                "(entry_id, partition, facts_digest, live_until, v) VALUES (%s, %s, %s, %s, %s)",
                [entry.pk, *group.values(), entry.expires_at, _encoded(vector)],
            )
        members = SemanticVector.objects.filter(**group)
        # NumPy needs five times as long for a row.
        room = GROUP_ENTRIES if has_pgvector() else GROUP_ENTRIES // 5
        if members.count() > room:
            newest = SemanticEntry.objects.filter(id__in=members.values("entry"))
            rest = newest.order_by("-last_hit_at", "-id").values("id")[room * 9 // 10 :]
            _delete(SemanticEntry.objects.filter(id__in=rest))
        return True

    return bool(tolerant("add", WRITE_MILLISECONDS, replace))


def forget(
    *,
    version: str | None = None,
    preset: str | None = None,
    user: int | None = None,
    end_user: str | None = None,
    older_than: datetime | None = None,
    key: str | None = None,
) -> int:
    """Delete the entries that fulfil all given conditions, or all; return their number.

    ``key`` may be the beginning of a key. Results of comparisons stay; their texts are emptied
    with the entry, or when the conditions apply to them.
    """
    named = {"version_key": version, "preset": preset, "user_id": user, "end_user": end_user}
    given = {name: value for name, value in named.items() if value is not None}
    entries, verdicts = SemanticEntry.objects.filter(**given), CacheVerdict.objects.filter(**given)
    if older_than is not None:
        entries = entries.filter(created_at__lt=older_than)
        verdicts = verdicts.filter(at__lt=older_than)
    if key is not None:
        entries, verdicts = entries.filter(key__startswith=key), verdicts.none()
    with transaction.atomic():
        verdicts.update(prompt="", answer_text="")
        return _delete(entries)


def versions() -> set[str]:
    """The keys of the versions that have entries."""
    return set(SemanticEntry.objects.values_list("version_key", flat=True).distinct())


def expire(now: datetime) -> int:
    """Delete entries whose time is over, and old comparisons; return the number of entries."""
    shown = Q(state=SemanticEntry.State.SUSPECT, expires_at__gt=now - _EVIDENCE)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_DELETE_OLD_VERDICTS, [_KEPT_VERDICTS])
        return _delete(SemanticEntry.objects.filter(expires_at__lte=now).exclude(shown))


def _nearest(group: list[bytes], vector: Vector) -> list[tuple[int, float]]:
    """Ids and cosines of the nearest live entries of a group, the nearest first."""
    rows = "FROM caching_semanticvector WHERE partition = %s AND facts_digest = %s"
    rows += " AND live_until > now()"
    with connection.cursor() as cursor:
        if has_pgvector():
            cursor.execute(
                f"SELECT entry_id, v <=> %s::halfvec AS distance {rows} ORDER BY 2 LIMIT %s",
                [_encoded(vector), *group, _CANDIDATES],
            )
            return [(entry_id, 1 - distance) for entry_id, distance in cursor.fetchall()]
        cursor.execute(f"SELECT entry_id, v {rows} AND length(v) = %s", [*group, 2 * len(vector)])
        found = cursor.fetchall()
    packed = np.frombuffer(b"".join(v for _, v in found), np.float16)
    vectors = packed.reshape(len(found), len(vector)).astype(np.float32)
    lengths = np.linalg.norm(vectors, axis=1) * np.linalg.norm(vector)
    cosines = vectors @ vector / np.maximum(lengths, np.finfo(np.float32).tiny)
    return [(found[i][0], float(cosines[i])) for i in np.argsort(-cosines)[:_CANDIDATES]]


def _encoded(vector: Vector) -> str | bytes:
    if has_pgvector():
        return f"[{','.join(map(str, vector.tolist()))}]"
    return vector.astype(np.float16).tobytes()


def _count_hit(entry_id: int) -> None:
    """Count, but do not wait for a hit in another process that locks the entry."""
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE caching_semanticentry SET hits = hits + 1, last_hit_at = now() WHERE id = "
            "(SELECT id FROM caching_semanticentry WHERE id = %s FOR NO KEY UPDATE SKIP LOCKED)",
            [entry_id],
        )


def _delete(entries: QuerySet[SemanticEntry]) -> int:
    CacheVerdict.objects.filter(entry__in=entries).update(prompt="", answer_text="")
    return entries.delete()[0]
