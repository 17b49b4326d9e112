"""Records made from the last frames of a request's streams."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from inference.ledger.admission import Admission, decode_admission, entry_of
from inference.messages import Failed, Finished, Timings, Usage
from metrics.models import RequestRecord
from models_registry.rules.price import Price

NOW = datetime(2026, 5, 10, 12, tzinfo=UTC)
USAGE = Usage(8, 3, 2, computed_prompt_tokens=6, computed_completion_tokens=3)
TIMINGS = Timings(0.5, 0.25, 1.0, device_seconds=0.1)


def admission(choices: int = 1, **fields: Any) -> Admission:
    """Facts of a chat of user 7."""
    ids = [f"chatcmpl-1.{index}" for index in range(choices)]
    return Admission("chatcmpl-1", "chat", 7, "m@v", ids, **fields)


def record(*frames: Finished | Failed | None, **ending: Any) -> RequestRecord:
    """The record of a request whose choices have these last frames."""
    facts = admission(len(frames), choices_per_prompt=max(1, len(frames)))
    return entry_of(facts, NOW, NOW, frames, **ending).record


def test_record_has_tokens_and_times_in_microseconds() -> None:
    found = record(Finished("stop", USAGE, TIMINGS), total_us=2_000_000, ttft_us=800_000)
    assert found.outcome == "finished"
    assert (found.prompt_tokens, found.cached_tokens, found.completion_tokens) == (8, 2, 3)
    assert (found.computed_prompt_tokens, found.computed_completion_tokens) == (6, 3)
    assert (found.queue_us, found.prefill_us, found.decode_us) == (500_000, 250_000, 1_000_000)
    assert (found.ttft_us, found.total_us, found.device_us) == (800_000, 2_000_000, 100_000)


def test_record_without_a_reader_has_the_times_of_its_frames() -> None:
    found = record(Finished("stop", USAGE, TIMINGS))
    assert (found.ttft_us, found.total_us) == (750_000, 1_750_000)


def test_failed_request_keeps_its_tokens() -> None:
    found = record(Failed("grammar_failed", "", usage=USAGE, timings=TIMINGS))
    assert (found.outcome, found.error_code) == ("failed", "grammar_failed")
    assert (found.completion_tokens, found.computed_prompt_tokens) == (3, 6)


@pytest.mark.parametrize(
    ("frames", "error_code", "outcome"),
    [
        ([Finished("stop", USAGE), Finished("length", USAGE)], "", "finished"),
        ([Finished("stop", USAGE), Finished("cancelled", USAGE)], "", "cancelled"),
        ([Finished("cancelled", USAGE), Failed("host_lost", "")], "", "failed"),
        ([Finished("cancelled", USAGE)], "request_timeout", "failed"),
        ([Finished("stop", USAGE), None], "", "cancelled"),
        ([None], "", "lost"),
    ],
)
def test_outcome_follows_the_worst_choice(
    frames: list[Finished | Failed | None], error_code: str, outcome: str
) -> None:
    assert record(*frames, error_code=error_code).outcome == outcome


def test_prompt_counts_once_for_all_its_answers() -> None:
    usages = [Usage(8, 3, 2, computed_prompt_tokens=6), Usage(8, 4, 8)]
    facts = admission(4, choices_per_prompt=2)
    frames = [Finished("stop", usage) for usage in usages * 2]
    one = entry_of(facts, NOW, NOW, frames)
    assert (one.record.prompt_tokens, one.record.completion_tokens) == (16, 14)
    assert one.record.computed_prompt_tokens == 12
    assert [step.completion_tokens for step in one.steps] == [3, 4, 3, 4]


def test_single_choice_is_no_step() -> None:
    assert entry_of(admission(), NOW, NOW, [Finished("stop", USAGE)]).steps == []


def test_admission_comes_back_from_its_bytes() -> None:
    prices = (Price(1, NOW, 2, 3, 4, 5),)
    facts = admission(2, preset="fast", names=[("user", 7, "ann")], prices=prices)
    assert decode_admission(facts.encode()) == facts


def test_cost_is_that_of_the_price_in_force_at_admission() -> None:
    noon = NOW - timedelta(hours=1)
    dear = Price(2, NOW + timedelta(seconds=1), 10**12, 10**12, 10**12, 0)
    facts = admission(prices=(Price(1, noon, 10**9, 0, 2 * 10**9, 36 * 10**8), dear))
    frames = [Finished("stop", USAGE, TIMINGS)]
    later = NOW + timedelta(seconds=1)
    before, after = (entry_of(facts, started_at, later, frames) for started_at in (NOW, later))
    # 6 and 3 tokens at 1,000 and 2,000 nano-dollars, and 0.1 s at 1,000,000 a second.
    assert (before.record.price_id, before.record.cost_nano) == (1, 112_000)
    assert (after.record.price_id, after.record.cost_nano) == (2, 11_000_000)


def test_request_without_a_price_in_force_costs_nothing() -> None:
    facts = admission(prices=(Price(1, NOW + timedelta(days=1), 10**9, 0, 0, 0),))
    found = entry_of(facts, NOW, NOW, [Finished("stop", USAGE)]).record
    assert (found.price_id, found.cost_nano) == (None, 0)
