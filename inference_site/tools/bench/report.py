"""Reports: tables for a terminal, Markdown for the docs, JSON for programs."""

from collections.abc import Iterable
from dataclasses import asdict

import msgspec
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from inference_site.tools.bench.comparison import ComparedMetric
from inference_site.tools.bench.distribution import Distribution
from inference_site.tools.bench.experiment import Outcome
from inference_site.tools.bench.notes import describe_load, notes, warnings
from inference_site.tools.bench.summary import Summary

Row = tuple[str, ...]
DISTRIBUTION_HEADER: Row = ("", "mean", "p50", "p90", "p95", "p99", "max")


def format_seconds(seconds: float) -> str:
    """Format a time with three significant figures, in ms below one second."""
    return f"{seconds * 1000:.3g} ms" if seconds < 0.9995 else f"{seconds:.2f} s"


def format_value(value: float, unit: str) -> str:
    """Format seconds or a rate."""
    return format_seconds(value) if unit == "s" else f"{value:.1f}"


def distribution_rows(run: Summary) -> list[Row]:
    """Return one row for each measured distribution of the run."""
    rows = [
        _times("TTFT", run.ttft_seconds),
        _times("ITL", run.inter_token_seconds),
        _times("chunk gap", run.chunk_gap_seconds),
        _times("latency", run.latency_seconds),
    ]
    if (rates := run.streaming_tokens_per_second) is not None:
        values = (rates.mean, rates.p50, rates.p90, rates.p95, rates.p99, rates.maximum)
        rows.append(("stream tok/s", *(f"{value:.1f}" for value in values)))
    return [row for row in rows if len(row) > 1]


def _times(label: str, values: Distribution | None) -> Row:
    if values is None:
        return (label,)
    shown = (values.mean, values.p50, values.p90, values.p95, values.p99, values.maximum)
    return (label, *(format_seconds(value) for value in shown))


def comparison_header(outcome: Outcome) -> Row:
    peer = outcome.peer.name if outcome.peer is not None else "peer"
    ours = outcome.pairs[0].ours.server if outcome.pairs else "ours"
    return ("", ours, peer, "ratio", "min-max")


def comparison_row(compared: ComparedMetric) -> Row:
    return (
        compared.label,
        format_value(compared.ours_median, compared.unit),
        format_value(compared.peer_median, compared.unit),
        f"{compared.ratio_median:.2f}",
        f"{compared.ratio_minimum:.2f}-{compared.ratio_maximum:.2f}",
    )


def terminal(outcome: Outcome) -> RenderableType:
    """Return the result for a terminal."""
    parts: list[RenderableType] = [Text(describe_load(outcome.load), style="bold")]
    if outcome.run is not None:
        parts.append(_table(DISTRIBUTION_HEADER, distribution_rows(outcome.run)))
    else:
        rows = [comparison_row(compared) for compared in outcome.comparison]
        parts.append(_table(comparison_header(outcome), rows))
    parts.append(Text("\n".join(notes(outcome))))
    parts += [Text(f"warning: {text}", style="yellow") for text in warnings(outcome)]
    for run in outcome.runs:
        parts += [
            Text(f"{run.server}: {f.count} x {f.kind}: {f.example}", style="red")
            for f in run.failures
        ]
    return Group(*parts)


def markdown(outcome: Outcome, command: str) -> str:
    """Return the result as a section of a Markdown document.

    Args:
        outcome: the result.
        command: the command line that reproduces it.
    """
    if outcome.run is not None:
        header, rows = DISTRIBUTION_HEADER, distribution_rows(outcome.run)
    else:
        header = comparison_header(outcome)
        rows = [comparison_row(compared) for compared in outcome.comparison]
    lines = [
        f"**{describe_load(outcome.load)}**",
        "",
        *_markdown_table(header, rows),
        "",
        f"`{command}`",
        "",
    ]
    lines += [f"* {note}" for note in notes(outcome)]
    lines += [f"* Warning: {text}" for text in warnings(outcome)]
    lines += [f"* {run.server}: {f.count} x {f.kind}" for run in outcome.runs for f in run.failures]
    return "\n".join(lines) + "\n"


def json_bytes(outcome: Outcome) -> bytes:
    """Return the result as indented JSON; times in seconds."""
    return msgspec.json.format(msgspec.json.encode(asdict(outcome)), indent=2) + b"\n"


def _table(header: Row, rows: Iterable[Row]) -> Table:
    table = Table()
    for index, name in enumerate(header):
        table.add_column(name, justify="right" if index else "left")
    for row in rows:
        table.add_row(*row)
    return table


def _markdown_table(header: Row, rows: Iterable[Row]) -> list[str]:
    rule = tuple("---:" if index else "---" for index, _ in enumerate(header))
    return ["| " + " | ".join(row) + " |" for row in (header, rule, *rows)]
