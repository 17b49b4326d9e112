"""The audit trail in the admin: every change of a registry row, who made it and when; to read."""

from auditlog.filters import ResourceTypeFilter
from auditlog.mixins import LogEntryAdminMixin
from auditlog.models import LogEntry
from django.contrib import admin
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe
from unfold.admin import ModelAdmin
from unfold.contrib.filters.admin import RangeDateTimeFilter, RelatedDropdownFilter
from unfold.decorators import display

from models_registry.admin.base import ReadOnlyAdmin
from models_registry.admin.display import NOTHING, table

_SHOWN_CHARACTERS = 40
_ACTION_LABELS = {"create": "success", "update": "info", "delete": "danger", "access": "default"}

# auditlog's own page has another style.
admin.site.unregister(LogEntry)


class TableFilter(ResourceTypeFilter):
    """Entries of one kind of row."""

    title = "kind"


@admin.register(LogEntry)
class AuditTrailAdmin(ReadOnlyAdmin, LogEntryAdminMixin, ModelAdmin):
    """Entries of django-auditlog."""

    list_display = ("timestamp", "who", "did", "what", "changed")
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
        (None, {"fields": ("timestamp", "who", "program", "did", "what")}),
        ("Changes", {"fields": ("change_table",)}),
    )
    readonly_fields = ("who", "program", "did", "what", "change_table")

    @display(description="who", ordering="actor__username", empty_value=NOTHING)
    def who(self, entry: LogEntry) -> str:
        """The user, or the program where nobody was logged in."""
        return str(entry.actor) if entry.actor else self.program(entry)

    @display(description="program")
    def program(self, entry: LogEntry) -> str:
        """What the change was made with."""
        return str((entry.additional_data or {}).get("program", NOTHING))

    @display(description="did", label=_ACTION_LABELS, ordering="action")
    def did(self, entry: LogEntry) -> str:
        """Created, updated or deleted."""
        return str(entry.get_action_display())

    @display(description="what", ordering="object_repr")
    def what(self, entry: LogEntry) -> SafeString:
        """The row: a link, which leads to its page while it is there."""
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
        """Fields with what they became, cut to a line each."""
        return format_html_join(
            mark_safe("<br>"),
            "{}: {}",
            ((name, _shortened(values)) for name, values in _changes(entry)[:3]),
        ) or SafeString(NOTHING)

    @display(description="changes")
    def change_table(self, entry: LogEntry) -> SafeString:
        """Each field with what it was and what it became."""
        rows = [(name, old, new) for name, (old, new) in _changes(entry)]
        return table(("field", "from", "to"), rows)


def _changes(entry: LogEntry) -> list[tuple[str, tuple[str, str]]]:
    shown = []
    for name, values in (entry.changes_display_dict or {}).items():
        if name == "ID":  # a row's first entry has it
            continue
        if isinstance(values, list) and len(values) == 2:
            shown.append((name, (str(values[0]), str(values[1]))))
        else:
            shown.append((name, ("", str(values))))
    return shown


def _shortened(values: tuple[str, str]) -> str:
    old, new = (_cut(value) for value in values)
    return f"{old} → {new}" if old not in ("", "None") else new


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"
