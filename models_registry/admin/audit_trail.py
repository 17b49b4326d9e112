"""The audit trail in the admin: every change of a registry row, read only."""

from auditlog.filters import ResourceTypeFilter
from auditlog.mixins import LogEntryAdminMixin
from auditlog.models import LogEntry
from django.contrib import admin
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe
from django.utils.text import Truncator
from unfold.admin import ModelAdmin
from unfold.contrib.filters.admin import RangeDateTimeFilter, RelatedDropdownFilter
from unfold.decorators import display

from models_registry.admin.base import ReadOnlyAdmin
from models_registry.admin.display import NOTHING, table

_SHOWN_CHARACTERS = 41  # with the ellipsis
_ACTION_COLOURS = {"create": "success", "update": "info", "delete": "danger", "access": "default"}

# Replace auditlog's own page, which has another style.
admin.site.unregister(LogEntry)


class TableFilter(ResourceTypeFilter):
    title = "kind"


@admin.register(LogEntry)
class AuditTrailAdmin(ReadOnlyAdmin, LogEntryAdminMixin, ModelAdmin):
    list_display = ("timestamp", "user", "action_label", "object_link", "changed")
    list_display_links = ("timestamp",)
    list_select_related = ("content_type", "actor")
    list_filter = (
        ("actor", RelatedDropdownFilter),
        TableFilter,
        "action",
        ("timestamp", RangeDateTimeFilter),
    )
    list_filter_submit = True
    list_per_page = 50
    search_fields = ("object_repr", "changes", "actor__username")
    fieldsets = (
        (None, {"fields": ("timestamp", "user", "program", "action_label", "object_link")}),
        ("Changes", {"fields": ("change_table",)}),
    )
    readonly_fields = ("user", "program", "action_label", "object_link", "change_table")

    @display(description="user", ordering="actor__username", empty_value=NOTHING)
    def user(self, entry: LogEntry) -> str:
        """The user, else the program."""
        return str(entry.actor) if entry.actor else self.program(entry)

    @display(description="program")
    def program(self, entry: LogEntry) -> str:
        return str((entry.additional_data or {}).get("program", NOTHING))

    @display(description="action", label=_ACTION_COLOURS, ordering="action")
    def action_label(self, entry: LogEntry) -> str:
        return str(entry.get_action_display())

    @display(description="object", ordering="object_repr")
    def object_link(self, entry: LogEntry) -> SafeString:
        table = entry.content_type
        name = f"admin:{table.app_label}_{table.model}_change"
        shown = entry.object_repr
        try:
            url = reverse(name, args=[entry.object_pk])
        except NoReverseMatch:
            return format_html("{} <span>({})</span>", shown, table.name)
        return format_html(
            '<a class="text-link whitespace-nowrap" href="{}">{}</a><div>{}</div>',
            url,
            shown,
            table.name,
        )

    @display(description="changes")
    def changed(self, entry: LogEntry) -> SafeString:
        """Up to three fields, with a line each."""
        lines = []
        for name, values in _changes(entry)[:3]:
            old, new = (Truncator(value).chars(_SHOWN_CHARACTERS) for value in values)
            lines.append((name, f"{old} → {new}" if old not in ("", "None") else new))
        return format_html_join(mark_safe("<br>"), "{}: {}", lines) or SafeString(NOTHING)

    @display(description="changes")
    def change_table(self, entry: LogEntry) -> SafeString:
        rows = [(name, old, new) for name, (old, new) in _changes(entry)]
        return table(("field", "from", "to"), rows)


def _changes(entry: LogEntry) -> list[tuple[str, tuple[str, str]]]:
    shown = []
    for name, values in (entry.changes_display_dict or {}).items():
        if name == "ID":  # in the first entry of each row
            continue
        if isinstance(values, list) and len(values) == 2:
            shown.append((name, (str(values[0]), str(values[1]))))
        else:
            shown.append((name, ("", str(values))))
    return shown
