"""Requests that have ended become increments of counters, and counters become text."""

from collections import Counter
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from metrics.models import RequestRecord
from metrics.prometheus.counters import deltas_of, field_of, refusal_field
from metrics.prometheus.exposition import exposition
from metrics.prometheus.names import LOADS, QUEUE_DEPTH, TTFT

VERSION = "m@v1"


def a_record(**fields: Any) -> RequestRecord:
    usual: dict[str, Any] = {
        "run_id": "r", "version_key": VERSION, "kind": "chat", "outcome": "finished",
        "prompt_tokens": 21, "cached_tokens": 16, "completion_tokens": 5,
        "cost_nano": 1_500_000_000,
        "device_us": 250_000, "queue_us": 0, "ttft_us": 100_000, "prefill_us": 80_000,
        "decode_us": 400_000, "total_us": 500_000,
    }  # fmt: skip
    return RequestRecord(**(usual | fields))


def samples_of(text: bytes) -> dict[str, dict[tuple[str, ...], float]]:
    """Values by the name of the sample, then by its labels in the order of their names."""
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sample.labels.values())] = sample.value
    return found


def shown(*records: RequestRecord, versions: tuple[str, ...] = (VERSION,)) -> Any:
    return samples_of(exposition(deltas_of(records), versions))


def test_request_adds_to_each_counter():
    found = shown(a_record(), a_record(outcome="failed", fallback=True))
    assert found["brigade_requests_total"] == {
        ("chat", "finished", VERSION): 1,
        ("chat", "failed", VERSION): 1,
    }
    assert found["brigade_prompt_tokens_total"] == {(VERSION,): 42}
    assert found["brigade_prefix_cache_hits_total"] == {(VERSION,): 32}
    assert found["brigade_generation_tokens_total"] == {(VERSION,): 10}
    assert found["brigade_cost_usd_total"] == {(VERSION,): 3.0}
    assert found["brigade_device_seconds_total"] == {(VERSION,): 0.5}
    assert found["brigade_fallbacks_total"] == {(VERSION,): 1}
    # The times of a failed request are not those of an answer.
    assert found["brigade_time_to_first_token_seconds_count"] == {(VERSION,): 1}


def test_histogram_counts_a_time_in_its_bucket_and_all_larger_ones():
    times = (1, 100_000, 100_001, 700_000_000)
    found = shown(*(a_record(ttft_us=time) for time in times))
    buckets = found["brigade_time_to_first_token_seconds_bucket"]
    assert buckets["0.01", VERSION] == 1
    assert buckets["0.1", VERSION] == 2
    assert buckets["0.25", VERSION] == 3
    assert buckets["600", VERSION] == 3
    assert buckets["+Inf", VERSION] == 4
    assert len(buckets) == len(TTFT.bounds) + 1
    assert found["brigade_time_to_first_token_seconds_sum"][VERSION,] == 700.200002


def test_inter_token_latency_is_the_mean_of_a_request_with_several_tokens():
    found = shown(a_record(), a_record(completion_tokens=1), a_record(decode_us=None))
    assert found["brigade_inter_token_latency_seconds_count"][VERSION,] == 1
    assert found["brigade_inter_token_latency_seconds_sum"][VERSION,] == 0.1


def test_answer_of_a_cache_counts_by_its_tier_and_not_as_time_of_the_model():
    found = shown(a_record(tier="l1"))
    assert found["brigade_cache_hits_total"] == {("l1", VERSION): 1}
    assert "brigade_e2e_request_latency_seconds_count" not in found


def test_versions_that_the_registry_does_not_have_are_one_series():
    gone = [a_record(version_key=f"gone-{number}@v1") for number in range(5000)]
    found = shown(a_record(), *gone)["brigade_requests_total"]
    assert found == {("chat", "finished", VERSION): 1, ("chat", "finished", "other"): 5000}


def test_unknown_models_are_refusals_of_one_series():
    fields = Counter(refusal_field("model_not_found") for _ in range(5000))
    found = samples_of(exposition(fields, ()))
    assert found == {"brigade_requests_refused_total": {("model_not_found",): 5000}}


def test_gauges_and_fields_of_other_releases():
    fields = {
        field_of(LOADS, VERSION): 3.0, field_of(QUEUE_DEPTH, VERSION): 7.0,
        "brigade_unheard_of|x": 1.0, "brigade_unlabelled": 1.0,
    }  # fmt: skip
    found = samples_of(exposition(fields, (VERSION,)))
    assert found == {
        "brigade_loads_total": {(VERSION,): 3},
        "brigade_queue_depth": {(VERSION,): 7},
    }
