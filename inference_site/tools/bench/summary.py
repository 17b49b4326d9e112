"""Computes the reported figures of a run from its observations."""

from collections import Counter
from dataclasses import dataclass

from inference_site.tools.bench.distribution import Distribution, distribution
from inference_site.tools.bench.load import Load
from inference_site.tools.bench.observation import Failure
from inference_site.tools.bench.runner import RunResult


@dataclass(frozen=True, slots=True)
class FailureCount:
    """How often a kind of failure happened, and the first message of that kind."""

    kind: str
    count: int
    example: str


@dataclass(frozen=True, slots=True)
class TokenCounts:
    """Lengths in tokens: requested, and counted by the server."""

    requested_mean: float
    actual: Distribution | None


@dataclass(frozen=True, slots=True)
class Summary:
    """The figures of one run; failed requests count only as failures.

    Rates divide the tokens that the server's ``usage`` counted by the duration of the whole run.
    ``streaming_tokens_per_second`` is of each request: tokens after the first, by the time after
    the first. The client's CPU share is of one core.
    """

    server: str
    requests: int
    completed: int
    failures: list[FailureCount]
    duration_seconds: float
    output_tokens_per_second: float
    total_tokens_per_second: float
    requests_per_second: float
    ttft_seconds: Distribution | None
    inter_token_seconds: Distribution | None
    chunk_gap_seconds: Distribution | None
    latency_seconds: Distribution | None
    streaming_tokens_per_second: Distribution | None
    prompt_tokens: TokenCounts
    completion_tokens: TokenCounts
    cached_tokens_total: int
    finish_reasons: dict[str, int]
    requests_without_usage: int
    client_cpu_ratio: float
    machine_busy_before_ratio: float | None = None
    peer_idle_cpu_seconds: float | None = None
    load_seconds: Distribution | None = None


def summarise(
    server: str,
    load: Load,
    result: RunResult,
    *,
    machine_busy_before_ratio: float | None = None,
    peer_idle_cpu_seconds: float | None = None,
) -> Summary:
    """Compute the figures of a run.

    Args:
        server: its name in reports.
        load: the requests.
        result: the observations.
        machine_busy_before_ratio: busy share of all cores just before the run; None where unknown.
        peer_idle_cpu_seconds: CPU time of the idle server of a pair during the run; None where
            unknown.
    """
    good = [seen for seen in result.observations if seen.failure is None]
    completion = sum(seen.completion_tokens for seen in good)
    prompt = sum(seen.usage.prompt_tokens for seen in good if seen.usage is not None)
    duration = max(result.duration_seconds, 1e-9)
    return Summary(
        server=server,
        requests=load.requests,
        completed=len(good),
        failures=_failures(result),
        duration_seconds=result.duration_seconds,
        output_tokens_per_second=completion / duration,
        total_tokens_per_second=(prompt + completion) / duration,
        requests_per_second=len(good) / duration,
        ttft_seconds=_present([s.ttft_seconds for s in good]),
        inter_token_seconds=distribution([g for s in good for g in s.inter_token_seconds()]),
        chunk_gap_seconds=distribution([g for s in good for g in s.chunk_gaps_seconds()]),
        latency_seconds=distribution([s.latency_seconds for s in good]),
        streaming_tokens_per_second=_present([s.streaming_tokens_per_second for s in good]),
        prompt_tokens=_token_counts(
            [s.requested_prompt_tokens for s in good],
            [s.usage.prompt_tokens for s in good if s.usage is not None],
        ),
        completion_tokens=_token_counts(
            [s.requested_output_tokens for s in good], [s.completion_tokens for s in good]
        ),
        cached_tokens_total=sum(s.usage.cached_tokens for s in good if s.usage is not None),
        finish_reasons=dict(Counter(s.finish_reason or "none" for s in good)),
        requests_without_usage=sum(s.usage is None for s in good),
        client_cpu_ratio=result.client_cpu_seconds / duration,
        machine_busy_before_ratio=machine_busy_before_ratio,
        peer_idle_cpu_seconds=peer_idle_cpu_seconds,
        load_seconds=distribution(result.load_seconds),
    )


def _present(values: list[float | None]) -> Distribution | None:
    return distribution([value for value in values if value is not None])


def _token_counts(requested: list[int], actual: list[int]) -> TokenCounts:
    mean = sum(requested) / len(requested) if requested else 0.0
    return TokenCounts(mean, distribution(actual))


def _failures(result: RunResult) -> list[FailureCount]:
    """Count all failures by kind; mark those of warm-up and background."""
    found = [seen.failure for seen in result.observations if seen.failure is not None]
    found += [Failure(f"background {f.kind}", f.message) for f in result.background_failures]
    found += [Failure(f"warm-up {f.kind}", f.message) for f in result.warmup_failures]
    examples: dict[str, str] = {}
    for failure in found:
        examples.setdefault(failure.kind, failure.message)
    counts = Counter(failure.kind for failure in found)
    return [FailureCount(kind, count, examples[kind]) for kind, count in counts.most_common()]
