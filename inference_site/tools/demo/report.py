"""The report of a demonstration; pure."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from rich.table import Table

from inference_site.tools.demo.traffic import Outcome

# From the decision to evict a replica to the end of its process.
EXIT_SECONDS = 3.0


@dataclass(frozen=True)
class Row:
    """One model or priority; waits are seconds to the first token."""

    name: str
    requests: int
    failed: int
    saw_loading: int
    median_wait_seconds: float
    longest_wait_seconds: float


@dataclass(frozen=True)
class Swaps:
    """Loads and evictions of one model; times are seconds of a load."""

    name: str
    loads: int
    swapped_out: int
    median_load_seconds: float
    longest_load_seconds: float


@dataclass(frozen=True)
class WaitLimits:
    """The limits of the service that bound a wait, in seconds."""

    maximum_wait_seconds: float
    minimum_dwell_seconds: float
    lease_seconds: float


@dataclass(frozen=True)
class Report:
    """All figures, and whether the demonstration passed."""

    seconds: float
    requests: int
    failed: int
    breaches: int
    swaps: int
    loads: int
    median_load_seconds: float
    longest_load_seconds: float
    longest_wait_seconds: float
    wait_limit_seconds: float
    budget_bytes: int
    peak_set_aside_bytes: int
    peak_used_bytes: int
    kills: int
    embedding_loads: int
    rows: tuple[Row, ...]
    swaps_by_model: tuple[Swaps, ...]
    errors: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether nothing failed, all limits held, and models were swapped."""
        held = not self.failed and not self.breaches
        return held and self.longest_wait_seconds <= self.wait_limit_seconds and self.swaps > 0

    def as_json(self) -> dict[str, object]:
        return asdict(self) | {"passed": self.passed}

    def swap_table(self) -> Table:
        table = Table("", "loads", "swapped out", "median load s", "longest load s")
        for row in self.swaps_by_model:
            table.add_row(
                row.name,
                str(row.loads),
                str(row.swapped_out),
                f"{row.median_load_seconds:.2f}",
                f"{row.longest_load_seconds:.2f}",
            )
        return table

    def table(self) -> Table:
        table = Table("", "requests", "failed", "saw loading", "median wait s", "longest wait s")
        for row in self.rows:
            table.add_row(
                row.name,
                str(row.requests),
                str(row.failed),
                str(row.saw_loading),
                f"{row.median_wait_seconds:.2f}",
                f"{row.longest_wait_seconds:.2f}",
            )
        return table


def row_of(name: str, outcomes: Sequence[Outcome]) -> Row:
    waits = [one.wait_seconds for one in outcomes]
    return Row(
        name,
        len(outcomes),
        sum(bool(one.error) for one in outcomes),
        sum(one.saw_loading for one in outcomes),
        statistics.median(waits) if waits else 0.0,
        max(waits, default=0.0),
    )


def rows_of(outcomes: Sequence[Outcome], embedding_model: str) -> tuple[Row, ...]:
    """Return rows of the models, then of the priorities of the generations."""
    models = sorted({one.model for one in outcomes})
    rows = [row_of(model, [one for one in outcomes if one.model == model]) for model in models]
    for priority in (3, 2, 1):
        chosen = [
            one for one in outcomes if one.priority == priority and one.model != embedding_model
        ]
        rows.append(row_of(f"priority {priority}", chosen))
    return tuple(rows)


def swaps_of(
    name: str, loads: Mapping[str, Sequence[float]], evictions: Mapping[str, int]
) -> Swaps:
    """Return the loads and evictions of a model; both are by version key."""
    times = [took for key, found in loads.items() if _is_of(key, name) for took in found]
    return Swaps(
        name,
        len(times),
        sum(count for key, count in evictions.items() if _is_of(key, name)),
        round(statistics.median(times), 2) if times else 0.0,
        round(max(times, default=0.0), 2),
    )


def wait_limit_seconds(
    outcomes: Sequence[Outcome],
    models: int,
    longest_load_seconds: float,
    kills: int,
    limits: WaitLimits,
) -> float:
    """Return the longest wait that is allowed: one turn of each other model.

    A turn lasts until a model must leave, then the longest answer, the exit and the longest load.
    Each kill may add a lease until the death is noticed, and another load.
    """
    answer = max((one.total_seconds - one.wait_seconds for one in outcomes), default=0.0)
    turn = max(limits.maximum_wait_seconds, limits.minimum_dwell_seconds)
    turn += answer + EXIT_SECONDS + longest_load_seconds
    return models * turn + kills * (limits.lease_seconds + longest_load_seconds)


def _is_of(version_key: str, model: str) -> bool:
    return version_key.partition("@")[0] == model


def make_report(
    outcomes: Sequence[Outcome],
    *,
    seconds: float,
    loads: Mapping[str, Sequence[float]],
    evictions: Mapping[str, int],
    breaches: Sequence[str],
    kills: Sequence[str],
    budget_bytes: int,
    peak_set_aside_bytes: int,
    peak_used_bytes: int,
    limits: WaitLimits,
    embedding_model: str,
) -> Report:
    times = [took for key, found in loads.items() for took in found]
    models = sorted({one.model for one in outcomes})
    by_model = tuple(swaps_of(model, loads, evictions) for model in models)
    failures = [one for one in outcomes if one.error]
    longest_load = max(times, default=0.0)
    taking_turns = sum(model != embedding_model for model in models)
    return Report(
        seconds=round(seconds, 1),
        requests=len(outcomes),
        failed=len(failures),
        breaches=len(breaches),
        swaps=sum(evictions.values()),
        loads=len(times),
        median_load_seconds=round(statistics.median(times), 2) if times else 0.0,
        longest_load_seconds=round(longest_load, 2),
        longest_wait_seconds=round(max((one.wait_seconds for one in outcomes), default=0.0), 2),
        wait_limit_seconds=round(
            wait_limit_seconds(outcomes, taking_turns, longest_load, len(kills), limits), 1
        ),
        budget_bytes=budget_bytes,
        peak_set_aside_bytes=peak_set_aside_bytes,
        peak_used_bytes=peak_used_bytes,
        kills=len(kills),
        embedding_loads=sum(row.loads for row in by_model if row.name == embedding_model),
        rows=rows_of(outcomes, embedding_model),
        swaps_by_model=by_model,
        errors=(*(f"{one.model}: {one.error}" for one in failures[:20]), *breaches[:20]),
    )
