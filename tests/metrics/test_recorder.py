"""A run is recorded once."""

from typing import Any

import pytest

from metrics.models import RequestRecord
from metrics.recorder import record_run

pytestmark = pytest.mark.django_db
FIELDS: dict[str, Any] = dict(  # noqa: C408
    run_id="chatcmpl-1",
    request_id="r1",
    kind="chat",
    user_id=7,
    key_id=None,
    end_user="someone",
    version_key="m@v",
    outcome="finished",
    error_code="",
    prompt_tokens=5,
    cached_tokens=1,
    completion_tokens=9,
    queue_seconds=0.25,
    prefill_seconds=None,
    decode_seconds=1.5,
    total_seconds=2.0,
)


def record(**fields: Any) -> None:
    """Record a run of ``FIELDS`` with some of them changed."""
    record_run(RequestRecord(**(FIELDS | fields)))


def test_a_record_keeps_everything() -> None:
    record()
    row = RequestRecord.objects.get()
    assert {name: getattr(row, name) for name in FIELDS} == FIELDS
    assert row.created_at is not None


def test_a_second_record_of_a_run_is_ignored() -> None:
    record()
    record(outcome="failed", completion_tokens=0)
    assert RequestRecord.objects.get().outcome == "finished"
    record(run_id="chatcmpl-2")
    assert RequestRecord.objects.count() == 2
