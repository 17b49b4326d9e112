"""The counters that all processes add to: one hash in Redis, so they outlive every process.

A field is ``<metric>|<label>|…``; a histogram's ends in the upper bound of a bucket, or ``sum``.
 Values are whole numbers: requests, tokens, microseconds, billionths of a dollar.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable

from metrics.models import RequestRecord
from metrics.prometheus import names
from metrics.prometheus.names import MICROSECONDS, Histogram, Metric

SUM, INFINITE = "sum", "+Inf"


def field_of(metric: Metric | Histogram, *labels: str) -> str:
    return "|".join((metric.name, *labels))


def refusal_field(code: str) -> str:
    """The field that counts requests refused with this error code."""
    return field_of(names.REFUSED, code)


def deltas_of(records: Iterable[RequestRecord]) -> dict[str, int]:
    """The amounts that requests which have ended add to fields: pure."""
    deltas: Counter[str] = Counter()
    for record in records:
        version = record.version_key
        deltas[field_of(names.REQUESTS, version, record.kind, record.outcome)] += 1
        deltas[field_of(names.PROMPT_TOKENS, version)] += record.prompt_tokens
        deltas[field_of(names.PREFIX_HITS, version)] += record.cached_tokens
        deltas[field_of(names.GENERATION_TOKENS, version)] += record.completion_tokens
        deltas[field_of(names.COST, version)] += record.cost_nano
        deltas[field_of(names.DEVICE, version)] += record.device_us
        deltas[field_of(names.FALLBACKS, version)] += record.fallback
        if record.tier:
            deltas[field_of(names.CACHE_HITS, version, record.tier)] += 1
        elif record.outcome == RequestRecord.Outcome.FINISHED:
            for histogram, microseconds in _times(record).items():
                if microseconds is not None:
                    deltas[field_of(histogram, version, _bucket(histogram, microseconds))] += 1
                    deltas[field_of(histogram, version, SUM)] += microseconds
    return {field: amount for field, amount in deltas.items() if amount}


def _times(record: RequestRecord) -> dict[Histogram, int | None]:
    decode_us, gaps = record.decode_us, record.completion_tokens - 1
    return {
        names.TTFT: record.ttft_us,
        names.QUEUE: record.queue_us,
        names.PREFILL: record.prefill_us,
        names.DECODE: decode_us,
        names.TOTAL: record.total_us,
        names.INTER_TOKEN: decode_us // gaps if decode_us is not None and gaps > 0 else None,
    }


def _bucket(histogram: Histogram, microseconds: int) -> str:
    place = bisect_left(histogram.bounds, microseconds / MICROSECONDS)
    return f"{histogram.bounds[place]:g}" if place < len(histogram.bounds) else INFINITE
