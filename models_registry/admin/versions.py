"""Versions in the admin: their file and sources, how they run, which requests they get."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString
from unfold.admin import StackedInline, TabularInline
from unfold.decorators import display

from models_registry.admin.base import ReadOnlyAdmin
from models_registry.admin.deletion import Deletion
from models_registry.admin.display import (
    NOTHING,
    STATE_LABELS,
    label,
    memory_labels,
    rollout_labels,
    size,
)
from models_registry.admin.forms import RowForm
from models_registry.admin.memory_table import memory_table
from models_registry.admin.version_actions import VersionActions
from models_registry.files.inspection import forget_file
from models_registry.models import ContextBudget, ModelVersion, Replica, Source


class SourceInline(TabularInline):
    """Where the file comes from, in order."""

    model = Source
    form = RowForm
    extra = 0
    tab = True
    # unfold puts the handle for dragging into the first column, and hides that of the position.
    fields = ("url", "only_public", "position")
    ordering_field = "position"
    hide_ordering_field = True
    verbose_name_plural = "sources"


class ReplicaInline(ReadOnlyAdmin, TabularInline):
    """Where the version is in memory, to see."""

    model = Replica
    tab = True
    fields = readonly_fields = ("node", "desired", "live_state", "device", "loaded", "reason")

    @display(description="state")
    def live_state(self, replica: Replica) -> SafeString:
        """Where it is now."""
        return label(replica.state)

    @display(description="loaded")
    def loaded(self, replica: Replica) -> str:
        """How much of it is in memory."""
        return f"{replica.load_fraction:.0%}"


class ContextBudgetInline(StackedInline):
    """How its context is shared out in orchestrated runs."""

    model = ContextBudget
    form = RowForm
    extra = 0
    tab = True
    verbose_name_plural = "context budget"


_FILE = (
    *(("file_name", "file_state"), "file_error", ("sha256", "size_bytes"), "found_capabilities"),
    *(("architecture", "quantisation"), ("context_length_tokens", "vocabulary_size")),
    *(("embedding_dimensions", "kv_bytes_per_token"), ("hardware", "documented_memory_bytes")),
)
_RUNTIME = (
    *(("device", "gpu_layers"), "tensor_split", ("kv_cells", "max_sequences", "threads")),
    *(("flash_attention", "cache_type_k", "cache_type_v"), ("draft_model", "speculation")),
)
_TAB = ["tab"]


@admin.register(ModelVersion)
class ModelVersionAdmin(Deletion, VersionActions):
    """Versions with their file, their sources and where they are loaded."""

    list_display = ("key", "requests", "file", "size", "quantisation", "in_memory")
    list_filter = ("model", "file_state", "is_default", "is_deprecated", "pinned")
    search_fields = ("model__slug", "label")
    list_select_related = ("model",)
    readonly_fields = (
        *("file_state", "file_error", "architecture", "quantisation", "embedding_dimensions"),
        *("vocabulary_size", "kv_bytes_per_token", "found_capabilities", "memory"),
        *("requests", "in_memory"),
        *("is_default", "canary_percent", "is_deprecated", "deprecation_note"),
    )
    fieldsets = (
        (None, {"fields": (("model", "label"), ("requests", "in_memory"))}),
        ("File", {"fields": _FILE, "classes": _TAB}),
        ("Prompts", {"fields": ("chat_template", "default_sampling"), "classes": _TAB}),
        (
            "Runtime",
            {
                "fields": _RUNTIME,
                "classes": _TAB,
                "description": "Changes take effect when the version is loaded again. -1 layers on "
                "the GPU stand for INFERENCE_GPU_LAYERS, and for all where that is not set.",
            },
        ),
        (
            "Memory",
            {
                "fields": ("memory", "pinned", ("keep_alive_seconds", "preload_workers")),
                "classes": _TAB,
            },
        ),
        (
            "Rollout",
            {
                "fields": ("is_default", "canary_percent", "is_deprecated", "deprecation_note"),
                "classes": _TAB,
            },
        ),
        (
            "Prices",
            {
                "fields": (
                    "prompt_usd_per_million_tokens",
                    "completion_usd_per_million_tokens",
                    "usd_per_device_hour",
                ),
                "classes": _TAB,
            },
        ),
    )
    inlines = (SourceInline, ReplicaInline, ContextBudgetInline)

    def get_queryset(self, request: HttpRequest) -> QuerySet[ModelVersion]:
        """With what the columns need."""
        found: QuerySet[ModelVersion] = super().get_queryset(request)
        return found.prefetch_related("replicas__node")

    @display(description="version", ordering="model__slug")
    def key(self, version: ModelVersion) -> str:
        """How requests pin it."""
        return version.key

    @display(description="requests")
    def requests(self, version: ModelVersion) -> SafeString:
        """Which requests it gets."""
        return rollout_labels(version)

    @display(description="size", ordering="size_bytes")
    def size(self, version: ModelVersion) -> str:
        """Of the file."""
        return size(version.size_bytes)

    @display(description="file", label=STATE_LABELS)
    def file(self, version: ModelVersion) -> str:
        """Whether the file is here."""
        return version.file_state

    @display(description="in memory")
    def in_memory(self, version: ModelVersion) -> SafeString:
        """Where it is loaded."""
        return memory_labels(version)

    @display(description="capabilities")
    def found_capabilities(self, version: ModelVersion) -> str:
        """What its file says it can do."""
        return ", ".join(version.capabilities) or NOTHING

    @display(description="what it takes")
    def memory(self, version: ModelVersion) -> SafeString:
        """Foreseen and measured, on each node."""
        return memory_table(version)

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """Without the line for what went wrong where nothing did; new ones have no rollout yet."""
        if obj is not None and obj.file_error:
            return super().get_fieldsets(request, obj)
        return [
            (name, {**options, "fields": [one for one in options["fields"] if one != "file_error"]})
            for name, options in super().get_fieldsets(request, obj)
            if obj is not None or name != "Rollout"
        ]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        """The key names queues and records: it stays what it was when the version was added.

        What has an action is changed by that alone: it asks first, and keeps versions in step.
        """
        return (*self.readonly_fields, "model", "label", "pinned") if obj else self.readonly_fields

    def save_model(
        self, request: HttpRequest, version: ModelVersion, form: RowForm, change: bool
    ) -> None:
        """Save it; the first version of a model becomes its default.

        What was read from its file goes where another file is named.
        """
        if not change:
            version.is_default = not version.model.versions.filter(is_default=True).exists()
        super().save_model(request, version, form, change)
        if change:
            forget_file(version, form.changed_data)
