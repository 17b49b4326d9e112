"""Versions in the admin: file and sources, runtime options, rollout, prices."""

from typing import Any, Final

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString
from unfold.admin import StackedInline, TabularInline
from unfold.decorators import display

from models_registry.admin import columns
from models_registry.admin.base import DeletableAdmin, ReadOnlyAdmin, RowForm
from models_registry.admin.display import NOTHING, size, sizes, table
from models_registry.admin.prices import PriceInline
from models_registry.admin.version_actions import VersionActions
from models_registry.files.inspection import forget_file
from models_registry.fleet.footprints import (
    estimate_of,
    mapped_bytes,
    measured_footprints,
    options_of,
    placements_of,
)
from models_registry.models import ContextBudget, ModelVersion, Node, Price, Replica, Source
from models_registry.plan.facts import Placement
from models_registry.plan.reasons import format_bytes


class SourceInline(TabularInline):
    model = Source
    form = RowForm
    extra = 0
    tab = True
    # unfold puts the drag handle into the first column and hides the column of the position.
    fields = ("url", "only_public", "position")
    ordering_field = "position"
    hide_ordering_field = True
    verbose_name_plural = "sources"


class ReplicaInline(ReadOnlyAdmin, TabularInline):
    model = Replica
    tab = True
    fields = readonly_fields = (
        *("node", "desired", columns.state, "device", columns.loaded, "reason"),
    )


class ContextBudgetInline(StackedInline):
    model = ContextBudget
    form = RowForm
    extra = 0
    tab = True
    verbose_name_plural = "context budget"


def _tab(*fields: Any, **options: Any) -> dict[str, Any]:
    return {"fields": fields, "classes": ["tab"], **options}


_MEMORY_HEADERS: Final = (
    *("node", "device", "weights", "KV cache", "compute buffers", "estimated", "measured"),
    "budget",
)
_ROLLOUT = ("is_default", "canary_percent", "is_deprecated", "deprecation_note")


@admin.register(ModelVersion)
class ModelVersionAdmin(DeletableAdmin, VersionActions):
    list_display = (
        *("key", columns.rollout, columns.file_state, columns.file_size, "quantisation"),
        columns.in_memory,
    )
    list_filter = ("model", "file_state", "is_default", "is_deprecated", "pinned")
    search_fields = ("model__slug", "label")
    list_select_related = ("model",)
    readonly_fields = (
        *("file_state", "file_error", "architecture", "quantisation", "embedding_dimensions"),
        *("vocabulary_size", "kv_bytes_per_token", "found_capabilities", "memory"),
        *(columns.rollout, columns.in_memory, *_ROLLOUT),
    )
    fieldsets = (
        (None, {"fields": (("model", "label"), (columns.rollout, columns.in_memory))}),
        (
            "File",
            _tab(
                *(("file_name", "file_state"), "file_error", ("sha256", "size_bytes")),
                *("found_capabilities", ("architecture", "quantisation")),
                ("context_length_tokens", "vocabulary_size"),
                ("embedding_dimensions", "kv_bytes_per_token"),
                ("hardware", "documented_memory_bytes"),
            ),
        ),
        ("Prompts", _tab("chat_template", "default_sampling")),
        (
            "Runtime",
            _tab(
                *(("device", "gpu_layers"), "tensor_split"),
                ("kv_cells", "max_sequences", "threads"),
                ("flash_attention", "cache_type_k", "cache_type_v"),
                ("draft_model", "speculation"),
                description="Changes take effect at the next load. -1 GPU layers stand for "
                "INFERENCE_GPU_LAYERS, or for all layers if it is not set.",
            ),
        ),
        ("Memory", _tab("memory", "pinned", ("keep_alive_seconds", "preload_workers"))),
        ("Rollout", _tab(*_ROLLOUT)),
    )
    inlines = (SourceInline, ReplicaInline, ContextBudgetInline, PriceInline)

    def get_queryset(self, request: HttpRequest) -> QuerySet[ModelVersion]:
        return super().get_queryset(request).prefetch_related("replicas__node")

    @display(description="version", ordering="model__slug")
    def key(self, version: ModelVersion) -> str:
        return version.key

    @display(description="capabilities")
    def found_capabilities(self, version: ModelVersion) -> str:
        return ", ".join(version.capabilities) or NOTHING

    @display(description="memory")
    def memory(self, version: ModelVersion) -> SafeString:
        """A row for each node, with the placement that is tried first there."""
        if version.header is None:
            return SafeString("Unknown until the file is downloaded.")
        measured = measured_footprints()
        rows = []
        for node in Node.objects.filter(seen_at__isnull=False):
            for place in list(placements_of(version, node, {}))[:1]:
                options = options_of(version, place.device, node.cpu_features)
                known = measured.get((version.pk, options))
                is_on_cpu = set(place.needs) == {"cpu"}
                total = known + mapped_bytes(version, node) if known and is_on_cpu else None
                rows.append(_memory_row(version, node, place, total))
        if not rows:
            return SafeString("No node has registered yet.")
        return table(_MEMORY_HEADERS, rows)

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """Hide an empty error, and the rollout of a version that is being added."""
        if obj is not None and obj.file_error:
            return super().get_fieldsets(request, obj)
        return [
            (name, {**options, "fields": [one for one in options["fields"] if one != "file_error"]})
            for name, options in super().get_fieldsets(request, obj)
            if obj is not None or name != "Rollout"
        ]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[Any, ...]:
        # Queues and records contain the key; pinning has an action, which asks first.
        return (*self.readonly_fields, "model", "label", "pinned") if obj else self.readonly_fields

    def save_model(
        self, request: HttpRequest, version: ModelVersion, form: RowForm, change: bool
    ) -> None:
        """Save the row; the first version of a model becomes its default.

        Facts of the old file are cleared if another file is named.
        """
        if not change:
            version.is_default = not version.model.versions.filter(is_default=True).exists()
        super().save_model(request, version, form, change)
        if change:
            forget_file(version, form.changed_data)

    def save_formset(self, request: HttpRequest, form: Any, formset: Any, change: bool) -> None:
        """Save rows of an inline; a price keeps who has added it."""
        if formset.model is Price:
            for added in formset.extra_forms:
                added.instance.added_by = request.user.get_username()
        super().save_formset(request, form, formset, change)


def _memory_row(
    version: ModelVersion, node: Node, place: Placement, measured_bytes: int | None
) -> tuple[str, ...]:
    estimate = estimate_of(version, node.cpu_features)
    parts = (NOTHING, NOTHING, NOTHING)
    if estimate is not None and set(place.needs) == {"cpu"} and version.draft_model is None:
        weights = estimate.mapped_bytes + estimate.weights_bytes
        parts = (size(weights), size(estimate.kv_bytes), size(estimate.compute_bytes))
    estimated_bytes = sum(place.needs.values())
    measured = NOTHING
    if measured_bytes and estimated_bytes:
        percent = 100 * (measured_bytes - estimated_bytes) / estimated_bytes
        measured = f"{format_bytes(measured_bytes)} ({percent:+.0f} %)"
    return (
        node.name,
        place.device,
        *parts,
        sizes(place.needs.items()),
        measured,
        sizes((name, node.budgets.get(name, 0)) for name in place.needs),
    )
