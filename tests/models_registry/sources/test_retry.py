"""Pauses and limits of retries."""

import pytest

from models_registry.sources.http.retry import FailureCount, RateMonitor, RetryPolicy

MIB = 1024 * 1024


@pytest.mark.parametrize(("jitter", "low"), [(0.0, 0.5), (1.0, 1.0)])
def test_pause_doubles_up_to_a_limit_and_half_of_it_is_jitter(jitter: float, low: float) -> None:
    policy = RetryPolicy(jitter=lambda: jitter)
    pauses = [policy.pause_seconds(failures, None) for failures in (1, 2, 3, 7, 50)]
    assert pauses == [low * pause for pause in (1, 2, 4, 60, 60)]


def test_pause_that_the_server_names_is_kept() -> None:
    assert RetryPolicy().pause_seconds(1, 17) == 17


def test_failures_count_until_the_file_gets_further() -> None:
    failures = FailureCount()
    assert [failures.add(reached) for reached in (0, 100, MIB, MIB + 1, 2 * MIB)] == [
        1, 2, 1, 2, 1,
    ]  # fmt: skip


def test_failures_at_a_place_that_was_reached_before_are_no_progress() -> None:
    failures = FailureCount()
    assert [failures.add(reached) for reached in (5 * MIB, 0, 5 * MIB, 0, 5 * MIB)] == [
        1, 2, 3, 4, 5,
    ]  # fmt: skip


def test_rate_looks_at_whole_windows() -> None:
    now = [0.0]
    rate = RateMonitor(
        RetryPolicy(clock=lambda: now[0], slow_seconds=10, slow_bytes_per_second=100)
    )
    verdicts = []
    for second in range(1, 41):
        now[0] = second
        verdicts.append(rate.is_too_slow(200 if second <= 20 else 1))
    assert [second + 1 for second, slow in enumerate(verdicts) if slow] == [30, 40]
