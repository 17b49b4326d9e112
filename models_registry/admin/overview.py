"""The live overview: the admin's first page, its own page, and the part that refreshes.

htmx, which comes with unfold, replaces that part every two seconds. Without JavaScript the browser
reloads the page.
"""

from collections.abc import Sequence
from typing import Any, Final

from django.contrib import admin
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from models_registry.admin.base import redirect
from models_registry.admin.display import (
    NOTHING,
    download_progress,
    duration,
    label,
    link,
    progress,
    size,
)
from models_registry.fleet.overview import (
    DeviceMemory,
    NodeState,
    Overview,
    ReplicaSummary,
    read_overview,
    shown_downloads,
)
from models_registry.models import Download, Replica
from models_registry.plan.reasons import format_bytes

REFRESH_SECONDS: Final = 2
_PAGE: Final = "models_registry/overview/page.html"
_FLEET: Final = "models_registry/overview/fleet.html"
_DOWNLOADS: Final = "models_registry/overview/downloads.html"
_PERMISSION: Final = "models_registry.view_replica"
_LEAVING_FROM: Final = (Replica.State.READY, Replica.State.STARTING)


def overview_page(request: HttpRequest) -> HttpResponse:
    """The overview, or for htmx only the part that refreshes."""
    refused = _refused(request)
    if refused is not None:
        return refused
    context = fleet_context(read_overview())
    if request.headers.get("HX-Request"):
        return TemplateResponse(request, _FLEET, context)
    shown = {**admin.site.each_context(request), **context, "title": "Overview"}
    return TemplateResponse(request, _PAGE, shown)


def downloads_part(request: HttpRequest) -> HttpResponse:
    refused = _refused(request)
    if refused is not None:
        return refused
    rows = list(shown_downloads(timezone.now()))
    context = {"downloads": download_table(rows), "refresh_seconds": REFRESH_SECONDS}
    return TemplateResponse(request, _DOWNLOADS, context)


def fleet_context(overview: Overview) -> dict[str, Any]:
    ready = sum(one.is_serving for one in overview.replicas)
    shown = {one.replica.version.key for one in overview.replicas}
    without_replica = [(key, count) for key, count in overview.queued.items() if key not in shown]
    return {
        "refresh_seconds": REFRESH_SECONDS,
        "seen_at": overview.seen_at,
        "fault": overview.fault,
        "figures": [
            ("Tokens per second", f"{overview.tokens_per_second:,.0f}"),
            ("Running sequences", f"{overview.running:,}"),
            ("Waiting requests", f"{overview.waiting:,}"),
            ("Serving replicas", f"{ready} of {len(overview.replicas)}"),
        ],
        "nodes": [_node(one) for one in overview.nodes],
        "replicas": replica_table(overview.replicas),
        "waiting": format_html_join("", "<p>{}: {} waiting request(s)</p>", without_replica),
        "downloads": download_table(overview.downloads),
    }


def replica_table(replicas: Sequence[ReplicaSummary]) -> dict[str, Any]:
    rows: list[tuple[Any, ...]] = []
    for one in replicas:
        row, figures = one.replica, one.figures
        pinned = label("pinned") if row.version.pinned else ""
        rows.append(
            (
                format_html("{} {}", link(row, row.version.key), pinned),
                row.node.name,
                _state(one),
                row.device or NOTHING,
                size(sum(row.needed_bytes.values())),
                f"{figures.running:,}",
                f"{one.queued:,}",
                f"{figures.tokens_per_second:,.0f}",
            )
        )
    headers = (
        "replica",
        "node",
        "state",
        "device",
        "reserved memory",
        "running",
        "queue",
        "tokens/s",
    )
    return {"headers": headers, "rows": rows}


def download_table(downloads: Sequence[Download]) -> dict[str, Any]:
    return {
        "headers": ("version", "state", "progress", "by"),
        "rows": [
            (
                link(one, one.version.key),
                label(one.state),
                format_html("{} {}", download_progress(one), one.error),
                str(one.requested_by or NOTHING),
            )
            for one in downloads
        ],
    }


def _refused(request: HttpRequest) -> HttpResponse | None:
    """The redirect to the login page, or None. Raises ``PermissionDenied``."""
    if not admin.site.has_permission(request):
        login = reverse("admin:login")
        if request.headers.get("HX-Request"):
            return redirect(request, login)
        return redirect_to_login(request.get_full_path(), login)
    if not request.user.has_perm(_PERMISSION):
        raise PermissionDenied
    return None


def _node(state: NodeState) -> dict[str, Any]:
    node = state.node
    silent = duration((timezone.now() - node.seen_at).total_seconds()) if node.seen_at else ""
    return {
        "link": link(node),
        "label": label("answers" if state.is_alive else "silent"),
        "about": f"{state.hosts} of {node.max_replicas} hosts in use, {node.cpu_count or 0} CPUs",
        "silent": "" if state.is_alive else f"Its cluster, started {silent} ago, does not answer.",
        "devices": [_device(one) for one in state.devices],
    }


def _device(memory: DeviceMemory) -> dict[str, Any]:
    budget = max(1, memory.budget_bytes)
    # If replicas hold more than the budget, the bar is full.
    scale = 100 / max(budget, memory.used_bytes + memory.reserved_bytes)
    over = -memory.free_bytes
    left = f"{format_bytes(memory.free_bytes)} free"
    if over > 0:
        left = f"{size(over)} over budget (idle models are evicted, pinned ones stay)"
    reserved = f", {size(memory.reserved_bytes)} loading" if memory.reserved_bytes else ""
    return {
        "name": memory.name,
        "about": memory.description,
        "numbers": f"{format_bytes(memory.used_bytes)} used{reserved}, {left} "
        f"of {format_bytes(memory.budget_bytes)} for models",
        "holdings": [
            {
                "percent": f"{one.held_bytes * scale:.2f}",
                "title": f"{one.version_key}: {format_bytes(one.held_bytes)}",
                "is_reserved": one.is_reserved,
            }
            for one in memory.holdings
        ],
    }


def _state(one: ReplicaSummary) -> SafeString:
    row = one.replica
    if row.state == Replica.State.LOADING:
        return progress(100 * row.load_fraction, "loading", f"{row.load_fraction:.0%}")
    reason = format_html('<div class="fleet-reason">{}</div>', row.reason) if row.reason else ""
    leaving = row.desired == Replica.Desired.ABSENT and row.state in _LEAVING_FROM
    shown = label("unloading", "warning") if leaving else label(row.state)
    return format_html("<div>{}{}</div>", shown, reason)
