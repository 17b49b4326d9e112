"""The text beside the figures: the load, lengths, set-up, and warnings."""

from statistics import mean, median

from inference_site.tools.bench.experiment import Outcome
from inference_site.tools.bench.load import Load
from inference_site.tools.bench.summary import Summary

BUSY_WARNING_RATIO = 0.1
LENGTH_WARNING_RATIO = 0.9
IDLE_WARNING_RATIO = 0.05


def describe_load(load: Load) -> str:
    """Return the load in one line."""
    users = (
        f"{load.concurrency} concurrent"
        if load.concurrency is not None
        else f"open loop at {load.arrival_rate_per_second:g}/s"
    )
    parts = [users, f"{load.requests} requests"]
    if load.turns > 1:
        parts.append(f"{load.turns} turns each")
    if load.shared_prefix_tokens:
        personas = f" of {load.prefixes} personas" if load.prefixes > 1 else ""
        parts.append(f"shared prefix of {load.shared_prefix_tokens} tokens{personas}")
    parts += [f"{load.prompt_tokens} unshared tokens", f"{load.output_tokens} new"]
    if load.background is not None:
        parts.append(f"beside {load.background.concurrency} background generations")
    if load.swapped_models:
        parts.append(f"while {' and '.join(load.swapped_models)} come and go")
    return f"{load.name}: " + ", ".join(parts)


def headline(run: Summary) -> str:
    """Return the run's rates in one line."""
    return (
        f"{run.completed} of {run.requests} requests in {run.duration_seconds:.2f} s: "
        f"{run.output_tokens_per_second:.1f} output tok/s, "
        f"{run.total_tokens_per_second:.1f} total tok/s, "
        f"{run.requests_per_second:.2f} requests/s"
    )


def notes(outcome: Outcome) -> list[str]:
    """List facts for below a table: lengths, keys, the client's cost, the peer's set-up."""
    notes = [headline(outcome.run)] if outcome.run is not None else []
    if outcome.comparison:
        notes.append(
            f"medians of {len(outcome.pairs)} pairs; the ratio is the median of the ratios of "
            "each pair"
        )
    by_server = _by_server(outcome)
    notes += [_length_note(runs) for runs in by_server]
    notes += [note for runs in by_server for note in _swap_notes(runs)]
    shares = ", ".join(
        f"{max(run.client_cpu_ratio for run in runs):.1%} ({runs[0].server})" for runs in by_server
    )
    notes.append(f"client CPU, of one core: {shares}")
    notes.append(f"seed {outcome.seed}, nonce {outcome.nonce}, model {outcome.model}")
    if outcome.peer is not None and outcome.peer.options is not None:
        options = outcome.peer.options
        notes.append(
            f"{outcome.peer.name} (xllamacpp {outcome.peer.version}): {options.threads} threads, "
            f"{options.parallel} slots, {options.context_tokens} tokens of unified context"
        )
    return notes


def _length_note(runs: list[Summary]) -> str:
    """Return requested and counted lengths over all runs of one server."""
    notes = []
    for label, counts in (
        ("prompt", [run.prompt_tokens for run in runs]),
        ("completion", [run.completion_tokens for run in runs]),
    ):
        counted = [(count.requested_mean, count.actual) for count in counts if count.actual]
        if not counted:
            notes.append(f"{label} tokens: none counted")
            continue
        asked = mean(requested for requested, _ in counted)
        average = mean(actual.mean for _, actual in counted)
        least = min(actual.minimum for _, actual in counted)
        most = max(actual.maximum for _, actual in counted)
        notes.append(
            f"{label} tokens: {asked:.0f} asked for, {average:.1f} counted ({least:.0f}-{most:.0f})"
        )
    cached = sum(run.cached_tokens_total for run in runs)
    return f"{runs[0].server}: " + "; ".join(notes) + f"; {cached} prompt tokens from cache"


def _swap_notes(runs: list[Summary]) -> list[str]:
    """Return how often other models were loaded during the runs, if any were."""
    loads = [run.load_seconds for run in runs if run.load_seconds is not None]
    if not loads:
        return []
    return [
        f"{runs[0].server}: {sum(load.count for load in loads)} loads of other models meanwhile, "
        f"{median(load.p50 for load in loads):.1f} s each from request to answer, at most "
        f"{max(load.maximum for load in loads):.1f} s"
    ]


def warnings(outcome: Outcome) -> list[str]:
    """List reasons to doubt the figures."""
    found = [text for runs in _by_server(outcome) for text in _run_warnings(runs)]
    if outcome.peer is not None and outcome.peer.unused_cpu_features:
        missing = ", ".join(outcome.peer.unused_cpu_features)
        found.append(
            f"This build of {outcome.peer.name} does not use {missing}, which this CPU has; a "
            "build for this CPU: pip install --no-binary xllamacpp xllamacpp"
        )
    return found


def _run_warnings(runs: list[Summary]) -> list[str]:
    server = runs[0].server
    found = []
    busy = [run.machine_busy_before_ratio or 0.0 for run in runs]
    disturbed = sum(ratio > BUSY_WARNING_RATIO for ratio in busy)
    if disturbed:
        found.append(
            f"The machine was busy with other work before {disturbed} of {len(runs)} runs of "
            f"{server} (up to {max(busy):.0%})."
        )
    short = [
        run.completion_tokens.actual.mean
        for run in runs
        if run.completion_tokens.actual is not None
        and run.completion_tokens.actual.mean
        < LENGTH_WARNING_RATIO * run.completion_tokens.requested_mean
    ]
    if short:
        found.append(f"{server} stopped early: {min(short):.1f} tokens on average in a run.")
    without_usage = sum(run.requests_without_usage for run in runs)
    if without_usage:
        found.append(
            f"{server} sent no usage for {without_usage} requests: their tokens are counted as "
            "chunks."
        )
    idle = [
        seconds
        for run in runs
        if (seconds := run.peer_idle_cpu_seconds or 0.0) > IDLE_WARNING_RATIO * run.duration_seconds
    ]
    if idle:
        found.append(f"The idle peer used up to {max(idle):.2f} s of CPU in a run of {server}.")
    return found


def _by_server(outcome: Outcome) -> list[list[Summary]]:
    servers: dict[str, list[Summary]] = {}
    for run in outcome.runs:
        servers.setdefault(run.server, []).append(run)
    return list(servers.values())
