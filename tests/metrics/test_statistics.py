"""Counts, tokens and latencies of a model's versions."""

from datetime import timedelta

import pytest
from django.utils import timezone

from metrics.models import RequestRecord
from metrics.statistics import Percentiles, model_statistics
from tests.metrics.test_recorder import record

pytestmark = pytest.mark.django_db


def test_statistics_count_by_version_and_outcome() -> None:
    for number, seconds in enumerate((1.0, 2.0, 3.0)):
        record(run_id=f"a{number}", total_seconds=seconds)
    record(run_id="b", outcome="failed", total_seconds=100.0)
    record(run_id="c", outcome="cancelled", total_seconds=100.0)
    record(run_id="d", version_key="m@w", outcome="failed")
    record(run_id="e", version_key="m2@v")
    first, second = model_statistics("m", timezone.now() - timedelta(hours=1))
    assert (first.version_key, second.version_key) == ("m@v", "m@w")
    assert (first.requests, first.failed, first.cancelled) == (5, 1, 1)
    assert (first.prompt_tokens, first.cached_tokens, first.completion_tokens) == (25, 5, 45)
    assert (first.total.p50, first.queue.p50) == (2.0, 0.25)
    assert first.total.p95 == pytest.approx(2.9)
    assert second.total == Percentiles(None, None, None)


def test_statistics_leave_out_what_is_old_and_names_that_only_look_alike() -> None:
    record()
    RequestRecord.objects.update(created_at=timezone.now() - timedelta(days=2))
    record(run_id="x", version_key="mXy@v")
    assert model_statistics("m", timezone.now() - timedelta(days=1)) == []
    assert model_statistics("m_y", timezone.now() - timedelta(days=1)) == []
