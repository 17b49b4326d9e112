"""Presets in the admin, with their members and whether they fit into memory."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.db.models.functions import Left, Length
from django.http import HttpRequest
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from unfold.admin import TabularInline
from unfold.decorators import display
from unfold.views import ChangeList

from models_registry.admin.base import RegistryAdmin
from models_registry.admin.display import STATE_LABELS, label, size, table
from models_registry.admin.forms import RowForm
from models_registry.fleet.preset_fit import FitReport, NodeFit
from models_registry.models import Preset, PresetMember
from models_registry.plan.reasons import format_bytes

_BASES = {
    "measured": "measured here",
    "foreseen": "foreseen from the file",
    "published": "as its publisher says, without KV cache",
    "file": "size of its file, without KV cache",
}


class PresetChangeList(ChangeList):
    """Knows of each preset shown whether it fits, from one look at the nodes."""

    def get_results(self, request: HttpRequest) -> None:
        """Look once for all rows of the page."""
        super().get_results(request)
        report = FitReport()
        for preset in self.result_list:
            preset.best_fit = report.best(preset)


class MemberInline(TabularInline):
    """Who speaks in it, in order."""

    model = PresetMember
    form = RowForm
    extra = 0
    hide_title = True
    # unfold puts the handle for dragging into the first column, and hides that of the position.
    fields = ("role", "model", "version", "position")
    ordering_field = "position"
    hide_ordering_field = True
    verbose_name_plural = "members, in the order in which they speak"


@admin.register(Preset)
class PresetAdmin(RegistryAdmin):
    """Named sets of models that work together."""

    list_display = ("name", "title", "mode", "who", "published_memory", "fits")
    list_filter = ("orchestration_mode", "hardware")
    search_fields = ("name", "title", "members__model__slug")
    search_help_text = "A name, a title or a member."
    list_per_page = 30
    # S2 goes before S10.
    ordering = (Left("name", 1), Length("name"), "name")
    inlines = (MemberInline,)
    readonly_fields = ("fit_table",)
    fieldsets = (
        (None, {"fields": (("name", "title"), ("orchestration_mode", "hardware"), "description")}),
        ("Fits on this node?", {"fields": ("fit_table",), "classes": ["tab"]}),
        (
            "Settings",
            {
                "fields": ("settings", "default_sampling", "documented_memory_bytes"),
                "classes": ["tab"],
            },
        ),
    )

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """A preset without members yet has nothing to fit."""
        sets = super().get_fieldsets(request, obj)
        return sets if obj else [one for one in sets if "fit_table" not in one[1]["fields"]]

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        """One that knows what fits."""
        return PresetChangeList

    def get_queryset(self, request: HttpRequest) -> QuerySet[Preset]:
        """With what the columns need."""
        found: QuerySet[Preset] = super().get_queryset(request)
        return found.prefetch_related(
            "members__model__versions__model",
            "members__model__versions__draft_model__model",
            "members__version__model",
            "members__version__draft_model__model",
        )

    @display(description="mode", ordering="orchestration_mode")
    def mode(self, preset: Preset) -> str:
        """How they work together."""
        return preset.orchestration_mode

    @display(description="members")
    def who(self, preset: Preset) -> SafeString:
        """By what they do."""
        by_role: dict[str, list[str]] = {}
        for member in preset.members.all():
            name = member.version.key if member.version else member.model.slug
            by_role.setdefault(member.role, []).append(name)
        return format_html_join(
            "",
            '<div class="whitespace-normal"><span class="font-medium">{}</span> {}</div>',
            ((role, ", ".join(names)) for role, names in by_role.items()),
        )

    @display(description="documented memory", ordering="documented_memory_bytes")
    def published_memory(self, preset: Preset) -> str:
        """As its publisher says."""
        return size(preset.documented_memory_bytes)

    @display(description="fits here", label=STATE_LABELS)
    def fits(self, preset: Preset) -> str:
        """On the node that suits it best."""
        return str(getattr(preset, "best_fit", ""))

    @display(description="members in memory")
    def fit_table(self, preset: Preset) -> SafeString:
        """On each node, with numbers: by how much not, and which members can."""
        fits = FitReport().fits(preset)
        if not fits:
            return SafeString("No machine has shown itself yet.")
        return format_html_join("", "{}", ((_shown(one),) for one in fits))


def _shown(fit: NodeFit) -> SafeString:
    rows = [
        (
            need.version_key,
            ", ".join(f"{format_bytes(count)} ({name})" for name, count in need.needs.items()),
            _BASES[need.basis],
        )
        for need in fit.members
    ]
    return format_html(
        '<div class="mb-4"><div class="flex items-center gap-2 mb-2">'
        '<span class="font-semibold">{}</span>{}</div>{}{}</div>',
        fit.node,
        label(fit.verdict),
        format_html_join("", '<p class="mb-2">{}</p>', ((text,) for text in fit.sentences)),
        table(("member", "needs", "known from"), rows) if rows else "",
    )
