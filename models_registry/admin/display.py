"""Sizes, durations, labels, progress bars, tables and links in the admin."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from django.contrib.contenttypes.models import ContentType
from django.db.models import Model as Row
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from models_registry.models import Download
from models_registry.plan.reasons import format_bytes

NOTHING: Final = "-"

# Label types of unfold.
STATE_COLOURS: Final = {
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
_UNITS: Final = ((86_400, "d"), (3600, "h"), (60, "min"))


def size(count: int | None) -> str:
    """``98.4 MiB``; a hyphen for 0 and None."""
    return format_bytes(count) if count else NOTHING


def sizes(amounts: Iterable[tuple[str, int]]) -> str:
    """``8.0 GiB (cpu), 512 MiB (cuda:0)``."""
    return ", ".join(f"{format_bytes(count)} ({device})" for device, count in amounts)


def duration(seconds: float | None) -> str:
    """``45 s``, ``3 min`` or ``2 h``; a hyphen for None."""
    if seconds is None:
        return NOTHING
    for length, unit in _UNITS:
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def label(text: str, colour: str = "") -> SafeString:
    """A coloured label, by default in the colour of the state ``text``."""
    shown = colour or STATE_COLOURS.get(text, "default")
    return render_to_string("unfold/helpers/label.html", {"text": text, "type": shown})


def labels(texts: Iterable[tuple[str, str]]) -> SafeString:
    """Labels side by side, from pairs of text and colour."""
    shown = format_html_join(" ", "{}", ((label(text, colour),) for text, colour in texts))
    return shown or SafeString(NOTHING)


def progress(percent: float, title: str, description: str = "") -> SafeString:
    return render_to_string(
        "unfold/components/progress.html",
        {"value": f"{percent:.0f}", "title": title, "description": description, "class": "w-56"},
    )


def table(headers: Sequence[str], rows: Sequence[Sequence[Any]]) -> SafeString:
    return render_to_string(
        "unfold/components/table.html", {"table": {"headers": headers, "rows": rows}}
    )


def page_url(row: Row) -> str:
    options = row._meta
    return reverse(f"admin:{options.app_label}_{options.model_name}_change", args=[row.pk])


def link(row: Row, text: str = "") -> SafeString:
    """A link to the page of a row."""
    return format_html(
        '<a class="font-medium text-link" href="{}">{}</a>', page_url(row), text or str(row)
    )


def history_url(row: Row) -> str:
    """The audit trail of one row."""
    table_id = ContentType.objects.get_for_model(row).pk
    trail = reverse("admin:auditlog_logentry_changelist")
    return f"{trail}?resource_type={table_id}&object_pk={row.pk}"


def download_progress(download: Download) -> SafeString:
    """Progress bar, speed and time left of a download; the size of one that has ended."""
    if not download.is_active:
        return SafeString(size(download.done_bytes))
    total = download.total_bytes or 0
    percent = 100 * download.done_bytes / total if total else 0
    if download.state == Download.State.QUEUED:
        parts = ["queued"]
    elif total:
        parts = [f"{format_bytes(download.done_bytes)} of {format_bytes(total)}"]
    else:
        parts = [format_bytes(download.done_bytes)]
    if download.bytes_per_second:
        parts.append(f"{size(download.bytes_per_second)}/s")
    if download.eta_seconds is not None:
        parts.append(f"{duration(download.eta_seconds)} left")
    return progress(percent, ", ".join(parts), f"{percent:.0f} %")
