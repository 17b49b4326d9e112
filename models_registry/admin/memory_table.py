"""What a version takes on each node, foreseen and measured, as a table of its page."""

from collections.abc import Iterable
from typing import Final

from django.utils.safestring import SafeString

from models_registry.admin.display import NOTHING, size, table
from models_registry.fleet.footprints import (
    estimate_of,
    mapped_bytes,
    measured_footprints,
    options_of,
    placements_of,
)
from models_registry.models import ModelVersion, Node
from models_registry.plan.facts import Placement
from models_registry.plan.reasons import format_bytes

_HEADERS: Final = (
    *("node", "device", "weights", "KV cache", "computing", "foreseen", "measured", "budget"),
)


def memory_table(version: ModelVersion) -> SafeString:
    """A row for each node and the place that is tried first there."""
    if version.header is None:
        return SafeString("Not known until its file is here.")
    measured = measured_footprints()
    rows = []
    for node in Node.objects.filter(seen_at__isnull=False):
        for place in list(placements_of(version, node, {}))[:1]:
            known = measured.get((version.pk, options_of(version, place.device, node.cpu_features)))
            is_on_cpu = set(place.needs) == {"cpu"}
            total = known + mapped_bytes(version, node) if known and is_on_cpu else None
            rows.append(_row(version, node, place, total))
    return table(_HEADERS, rows) if rows else SafeString("No machine has shown itself yet.")


def _row(
    version: ModelVersion, node: Node, place: Placement, measured_bytes: int | None
) -> tuple[str, ...]:
    estimate = estimate_of(version, node.cpu_features)
    parts = (NOTHING, NOTHING, NOTHING)
    if estimate is not None and set(place.needs) == {"cpu"} and version.draft_model is None:
        weights = estimate.mapped_bytes + estimate.weights_bytes
        parts = (size(weights), size(estimate.kv_bytes), size(estimate.compute_bytes))
    foreseen = sum(place.needs.values())
    return (
        node.name,
        place.device,
        *parts,
        _by_device(place.needs.items()),
        _compared(measured_bytes, foreseen),
        _by_device((name, node.budgets.get(name, 0)) for name in place.needs),
    )


def _by_device(amounts: Iterable[tuple[str, int]]) -> str:
    return ", ".join(f"{format_bytes(count)} ({name})" for name, count in amounts)


def _compared(measured_bytes: int | None, foreseen_bytes: int) -> str:
    if not measured_bytes or not foreseen_bytes:
        return NOTHING
    percent = 100 * (measured_bytes - foreseen_bytes) / foreseen_bytes
    return f"{format_bytes(measured_bytes)} ({percent:+.0f} %)"
