"""What a demonstration showed: pure."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from rich.table import Table

from inference_site.demo.traffic import Outcome


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
class Report:
    """All figures, and whether everything held."""

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
    errors: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """No failure, no breach, no endless wait, and there was something to see."""
        held = not self.failed and not self.breaches
        return held and self.longest_wait_seconds <= self.wait_limit_seconds and self.swaps > 0

    def as_json(self) -> dict[str, object]:
        """For machines."""
        return asdict(self) | {"passed": self.passed}

    def table(self) -> Table:
        """For people."""
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
    """A row of the table."""
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
    """Models, then priorities of the generations."""
    models = sorted({one.model for one in outcomes})
    rows = [row_of(model, [one for one in outcomes if one.model == model]) for model in models]
    for priority in (3, 2, 1):
        chosen = [
            one for one in outcomes if one.priority == priority and one.model != embedding_model
        ]
        rows.append(row_of(f"priority {priority}", chosen))
    return tuple(rows)


def make_report(
    outcomes: Sequence[Outcome],
    *,
    seconds: float,
    loads: Mapping[str, Sequence[float]],
    put_out: Mapping[str, int],
    breaches: Sequence[str],
    kills: Sequence[str],
    budget_bytes: int,
    peak_set_aside_bytes: int,
    peak_used_bytes: int,
    wait_limit_seconds: float,
    embedding_model: str,
) -> Report:
    """Put the figures together; ``loads`` and ``put_out`` are by version key."""
    times = [took for key, found in loads.items() for took in found]
    embeddings = [key for key in loads if key.partition("@")[0] == embedding_model]
    failures = [one for one in outcomes if one.error]
    return Report(
        seconds=round(seconds, 1),
        requests=len(outcomes),
        failed=len(failures),
        breaches=len(breaches),
        swaps=sum(put_out.values()),
        loads=len(times),
        median_load_seconds=round(statistics.median(times), 2) if times else 0.0,
        longest_load_seconds=round(max(times, default=0.0), 2),
        longest_wait_seconds=round(max((one.wait_seconds for one in outcomes), default=0.0), 2),
        wait_limit_seconds=wait_limit_seconds,
        budget_bytes=budget_bytes,
        peak_set_aside_bytes=peak_set_aside_bytes,
        peak_used_bytes=peak_used_bytes,
        kills=len(kills),
        embedding_loads=sum(len(loads[key]) for key in embeddings),
        rows=rows_of(outcomes, embedding_model),
        errors=(*(f"{one.model}: {one.error}" for one in failures[:20]), *breaches[:20]),
    )
