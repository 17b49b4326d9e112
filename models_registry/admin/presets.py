"""Presets, task routes and role assignments in the admin."""

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

from models_registry.admin.base import RegistryAdmin, RowForm
from models_registry.admin.display import STATE_COLOURS, label, size, sizes, table
from models_registry.fleet.preset_fit import FitReport
from models_registry.models import Preset, PresetMember, RoleAssignment, TaskRoute

_BASES = {
    "measured": "measured",
    "foreseen": "estimated from the file",
    "published": "publisher's number, without KV cache",
    "file": "file size, without KV cache",
}


class PresetChangeList(ChangeList):
    def get_results(self, request: HttpRequest) -> None:
        """Read the nodes once for all rows."""
        super().get_results(request)
        report = FitReport()
        for preset in self.result_list:
            preset.best_fit = report.best(preset)


class MemberInline(TabularInline):
    model = PresetMember
    form = RowForm
    extra = 0
    hide_title = True
    # unfold puts the drag handle into the first column and hides the column of the position.
    fields = ("role", "model", "version", "position")
    ordering_field = "position"
    hide_ordering_field = True
    verbose_name_plural = "members, in order"


@admin.register(Preset)
class PresetAdmin(RegistryAdmin):
    list_display = (
        "name",
        "title",
        "orchestration_mode",
        "member_list",
        "published_memory",
        "fits",
    )
    list_filter = ("orchestration_mode", "hardware")
    search_fields = ("name", "title", "members__model__slug")
    search_help_text = "Search by name, title or member."
    list_per_page = 30
    # S2 precedes S10.
    ordering = (Left("name", 1), Length("name"), "name")
    inlines = (MemberInline,)
    readonly_fields = ("fit_table",)
    fieldsets = (
        (None, {"fields": (("name", "title"), ("orchestration_mode", "hardware"), "description")}),
        ("Fit", {"fields": ("fit_table",), "classes": ["tab"]}),
        (
            "Settings",
            {
                "fields": ("settings", "default_sampling", "cache", "documented_memory_bytes"),
                "classes": ["tab"],
            },
        ),
    )

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        sets = super().get_fieldsets(request, obj)
        return sets if obj else [one for one in sets if "fit_table" not in one[1]["fields"]]

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return PresetChangeList

    def get_queryset(self, request: HttpRequest) -> QuerySet[Preset]:
        presets = super().get_queryset(request)
        return presets.prefetch_related(
            "members__model__versions__model",
            "members__model__versions__draft_model__model",
            "members__version__model",
            "members__version__draft_model__model",
        )

    @display(description="members")
    def member_list(self, preset: Preset) -> SafeString:
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
        return size(preset.documented_memory_bytes)

    @display(description="fits", label=STATE_COLOURS)
    def fits(self, preset: Preset) -> str:
        """The best verdict of all nodes."""
        return str(getattr(preset, "best_fit", ""))

    @display(description="members in memory")
    def fit_table(self, preset: Preset) -> SafeString:
        fits = FitReport().fits(preset)
        if not fits:
            return SafeString("No node has registered yet.")
        sections = []
        for fit in fits:
            rows = [
                (need.version_key, sizes(need.needs.items()), _BASES[need.basis])
                for need in fit.members
            ]
            section = format_html(
                '<div class="mb-4"><div class="flex items-center gap-2 mb-2">'
                '<span class="font-semibold">{}</span>{}</div>{}{}</div>',
                fit.node,
                label(fit.verdict),
                format_html_join("", '<p class="mb-2">{}</p>', ((text,) for text in fit.sentences)),
                table(("member", "needs", "source"), rows) if rows else "",
            )
            sections.append((section,))
        return format_html_join("", "{}", sections)


@admin.register(TaskRoute)
class TaskRouteAdmin(RegistryAdmin):
    list_display = ("task_type", "role", "fallback_role")
    list_filter = ("role",)
    search_fields = ("task_type",)


@admin.register(RoleAssignment)
class RoleAssignmentAdmin(RegistryAdmin):
    list_display = ("mode", "role", "participant", "own_tasks_only")
    list_display_links = ("mode", "role")
    list_filter = ("mode", "role", "participant")
