"""Columns that several pages and inlines show."""

from typing import Any

from django.utils.safestring import SafeString
from unfold.decorators import display

from models_registry.admin.display import STATE_COLOURS, label, labels, link, size
from models_registry.models import ModelVersion, Replica


@display(description="version", ordering="version")
def version_link(row: Any) -> SafeString:
    """For rows that belong to a version."""
    return link(row.version)


@display(description="state", ordering="state")
def state(row: Any) -> SafeString:
    """For replicas and downloads."""
    return label(row.state)


@display(description="loaded")
def loaded(replica: Replica) -> str:
    return f"{replica.load_fraction:.0%}"


@display(description="requests")
def rollout(version: ModelVersion) -> SafeString:
    """Which requests a version gets."""
    shown = []
    if version.is_default:
        shown.append(("default", "success"))
    if version.canary_percent:
        shown.append((f"canary {version.canary_percent} %", "info"))
    if version.is_deprecated:
        shown.append(("deprecated", "warning"))
    if version.pinned:
        shown.append(("pinned", "primary"))
    return labels(shown)


@display(description="in memory")
def in_memory(version: ModelVersion) -> SafeString:
    """Lists prefetch ``replicas__node``."""
    return labels(
        (f"{replica.state} on {replica.node.name}", STATE_COLOURS[replica.state])
        for replica in version.replicas.all()
        if replica.state != Replica.State.STOPPED or replica.desired == Replica.Desired.RESIDENT
    )


@display(description="file")
def file_state(version: ModelVersion) -> SafeString:
    return label(version.file_state)


@display(description="size", ordering="size_bytes")
def file_size(version: ModelVersion) -> str:
    return size(version.size_bytes)
