"""How values look in the admin: sizes, states as labels, progress bars, tables."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from django.contrib.contenttypes.models import ContentType
from django.db.models import Model as Row
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from models_registry.models import Download, ModelVersion
from models_registry.plan.reasons import format_bytes

NOTHING: Final = "-"

STATE_LABELS: Final = {
    "ready": "success",
    "loading": "info",
    "starting": "info",
    "draining": "warning",
    "failed": "danger",
    "stopped": "default",
    "absent": "warning",
    "fetching": "info",
    "queued": "info",
    "running": "info",
    "done": "success",
    "cancelled": "warning",
    "fits": "success",
    "takes turns": "info",
    "too large": "danger",
    "unknown": "warning",
    "no node": "warning",
    "answers": "success",
    "silent": "danger",
    "in use": "success",
    "released": "default",
    "pinned": "primary",
    "pending": "info",
    "hit": "success",
    "waste": "warning",
    "missed": "danger",
}
"""Colours of states, as unfold names them."""

_SECONDS: Final = ((86_400, "d"), (3600, "h"), (60, "min"))


def size(count: int | None) -> str:
    """``98.4 MiB``, or a hyphen."""
    return format_bytes(count) if count else NOTHING


def duration(seconds: float | None) -> str:
    """``45 s``, ``3 min`` or ``2 h``; a hyphen for None."""
    if seconds is None:
        return NOTHING
    for length, unit in _SECONDS:
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def label(text: str, colour: str = "") -> SafeString:
    """A state as a coloured label; its colour is that of the state unless one is given."""
    shown = colour or STATE_LABELS.get(text, "default")
    return render_to_string("unfold/helpers/label.html", {"text": text, "type": shown})


def labels(texts: Iterable[tuple[str, str]]) -> SafeString:
    """Several labels side by side: texts with their colours."""
    shown = format_html_join(" ", "{}", ((label(text, colour),) for text, colour in texts))
    return shown or SafeString(NOTHING)


def progress(percent: float, title: str, description: str = "") -> SafeString:
    """A bar with a title above it."""
    return render_to_string(
        "unfold/components/progress.html",
        {"value": f"{percent:.0f}", "title": title, "description": description, "class": "w-56"},
    )


def table(headers: Sequence[str], rows: Sequence[Sequence[Any]]) -> SafeString:
    """Rows under headers."""
    return render_to_string(
        "unfold/components/table.html", {"table": {"headers": headers, "rows": rows}}
    )


def link(row: Row, text: str = "") -> SafeString:
    """A link to the page of a row."""
    options = row._meta
    url = reverse(f"admin:{options.app_label}_{options.model_name}_change", args=[row.pk])
    return format_html('<a class="font-medium text-link" href="{}">{}</a>', url, text or str(row))


def history_url(row: Row) -> str:
    """The audit trail of one row."""
    table_id = ContentType.objects.get_for_model(row).pk
    trail = reverse("admin:auditlog_logentry_changelist")
    return f"{trail}?resource_type={table_id}&object_pk={row.pk}"


def rollout_labels(version: ModelVersion) -> SafeString:
    """Which requests a version gets."""
    texts = []
    if version.is_default:
        texts.append(("default", "success"))
    if version.canary_percent:
        texts.append((f"canary {version.canary_percent} %", "info"))
    if version.is_deprecated:
        texts.append(("deprecated", "warning"))
    if version.pinned:
        texts.append(("pinned", "primary"))
    return labels(texts)


def memory_labels(version: ModelVersion) -> SafeString:
    """Where a version is in memory; its replicas and their nodes should be at hand."""
    return labels(
        (f"{replica.state} on {replica.node.name}", STATE_LABELS.get(replica.state, "default"))
        for replica in version.replicas.all()
        if replica.state != "stopped" or replica.desired == "resident"
    )


def download_progress(download: Download) -> SafeString:
    """How far a download is, how fast, and how long it still takes."""
    if not download.is_active:
        return SafeString(size(download.done_bytes))
    total = download.total_bytes or 0
    percent = 100 * download.done_bytes / total if total else 0
    if download.state == Download.State.QUEUED:
        parts = ["waits for its turn"]
    elif total:
        parts = [f"{format_bytes(download.done_bytes)} of {format_bytes(total)}"]
    else:
        parts = [format_bytes(download.done_bytes)]
    if download.bytes_per_second:
        parts.append(f"{size(download.bytes_per_second)}/s")
    if download.eta_seconds is not None:
        parts.append(f"{duration(download.eta_seconds)} left")
    return progress(percent, ", ".join(parts), f"{percent:.0f} %")
