"""Histograms of times over fixed logarithmic buckets, which are merged by adding.

A bucket's value differs from each time in it by at most 2 %, and so do the percentiles.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate
from math import ceil, floor, log
from typing import Final

GAMMA: Final = 1.0408
_LOG_GAMMA: Final = log(GAMMA)
# More than there are buckets: this one would begin after 19,000 years.
_NUMBERS: Final = 1024


def value_of(bucket: int) -> float:
    """Return the time in microseconds that has the same ratio to both ends of a bucket."""
    return 2 * GAMMA**bucket / (GAMMA + 1)


def bucket_sql(microseconds: str) -> str:
    """Return the SQL expression for the bucket of a numeric expression, which must not be null.

    Bucket ``b`` ends at ``GAMMA ** b``, the first one at 1 µs.
    """
    # greatest() ignores a null.
    return f"ceil(ln(greatest({microseconds}, 1)::float8) / {_LOG_GAMMA!r}::float8)::smallint"


def merged_sql(table: str, where: str, by: Mapping[str, str]) -> str:
    """Return a query that adds up the histograms of many rows of the models of ``Shape``.

    Args:
        table: of the rows, or a query in parentheses with a name.
        where: the condition on them.
        by: names and expressions of the columns that the sums are kept apart by; the columns
            ``buckets``, in ascending order, and ``counts`` follow them in each row of the result.
    """
    names = ", ".join(by)
    columns = ", ".join(f"{expression} AS {name}" for name, expression in by.items())
    # Millions of entries are summed by one number: by the columns it takes three times as long.
    return f"""
        WITH histograms AS (
            SELECT {columns}, buckets, counts,
                dense_rank() OVER (ORDER BY {", ".join(by.values())}) AS number
            FROM {table} WHERE {where}
        ), entries AS (
            SELECT entry / {_NUMBERS} AS number, mod(entry, {_NUMBERS})::smallint AS bucket,
                sum(requests)::bigint AS requests
            FROM (
                SELECT number * {_NUMBERS} + unnest(buckets) AS entry, unnest(counts) AS requests
                FROM histograms
            ) AS numbered GROUP BY entry
        ), sums AS (
            SELECT number, array_agg(bucket ORDER BY bucket) AS buckets,
                array_agg(requests ORDER BY bucket) AS counts
            FROM entries GROUP BY number
        )
        SELECT {names}, buckets, counts
        FROM sums JOIN (SELECT DISTINCT number, {names} FROM histograms) AS named USING (number)
        """  # noqa: S608 - the callers' constants


def percentile(buckets: Sequence[int], counts: Sequence[int], fraction: float) -> float | None:
    """Return the percentile in microseconds, or None when nothing was counted.

    It lies between the two nearest ranks, as ``percentile_cont`` has it.
    """
    entries = sorted(zip(buckets, counts, strict=True))
    ends = list(accumulate(count for _, count in entries))
    if not ends or ends[-1] == 0:
        return None
    rank = fraction * (ends[-1] - 1)
    below, above = (
        value_of(entries[bisect_right(ends, whole)][0]) for whole in (floor(rank), ceil(rank))
    )
    return below + (above - below) * (rank % 1)
