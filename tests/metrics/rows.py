"""Records for tests."""

import itertools
import math
from datetime import UTC, datetime
from typing import Any

from metrics.ledger.buckets import GAMMA
from metrics.ledger.entry import Entry
from metrics.models import RequestRecord

STARTED_AT = datetime(2026, 5, 10, 12, 0, 0, 123456, tzinfo=UTC)
_numbers = itertools.count()


def record(**fields: Any) -> RequestRecord:
    """A finished request, not saved; some of its fields changed."""
    defaults: dict[str, Any] = {
        "run_id": f"chatcmpl-{next(_numbers)}",
        "started_at": STARTED_AT,
        "settled_at": STARTED_AT,
        "request_id": "r1",
        "kind": "chat",
        "user_id": 7,
        "key_id": 3,
        "end_user": "someone",
        "requested_model": "m",
        "version_key": "m@v",
        "outcome": "finished",
        "prompt_tokens": 5,
        "cached_tokens": 1,
        "completion_tokens": 9,
        "computed_prompt_tokens": 4,
        "computed_completion_tokens": 9,
        "queue_us": 250,
        "ttft_us": 1_000,
        "decode_us": 15_000,
        "total_us": 20_000,
    }
    return RequestRecord(**(defaults | fields))


def entry(*names: tuple[str, int, str], **fields: Any) -> Entry:
    """``record`` as an entry."""
    return Entry(record(**fields), names=list(names))


def bucket_of(microseconds: float) -> int:
    """The bucket of a time."""
    return math.ceil(math.log(max(microseconds, 1.0)) / math.log(GAMMA))
