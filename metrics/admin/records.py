"""Requests, in a list that stays fast with millions of rows, and corrections of their costs."""

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from django.contrib import admin, messages
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ERROR_FLAG
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from unfold.admin import ModelAdmin
from unfold.contrib.filters.admin import (
    ChoicesDropdownFilter,
    DropdownFilter,
    FieldTextFilter,
    TextFilter,
)
from unfold.decorators import display
from unfold.paginator import InfinitePaginator
from unfold.views import ChangeList

from metrics.display import duration, money, rate, shown, title
from metrics.models import Correction, RequestRecord, RequestStep, UsageDay
from metrics.names import Names
from metrics.reports.usage import NAMED
from metrics.visibility import visible_to

_PHASES: Final = {"queue": "#d97706", "prefill": "#2563eb", "decode": "#059669"}


class Since(TextFilter):
    """Bounds a search, since few columns have an index; an empty one reaches back to the first."""

    title = "start, from (UTC)"
    parameter_name = "since"
    lookup = "started_at__gte"
    usual_days = 7

    def value(self) -> str:
        past = f"{timezone.now() - timedelta(days=self.usual_days):%Y-%m-%d %H:%M}"
        has_usual = self.usual_days and not self.request.GET.get(Before.parameter_name)
        return self.used_parameters.get(self.parameter_name, past if has_usual else "")

    def queryset(self, request: HttpRequest, rows: QuerySet[Any]) -> QuerySet[Any]:
        if not (text := self.value()):
            return rows
        try:
            moment = datetime.fromisoformat(text)
        except ValueError as error:
            raise IncorrectLookupParameters(f"{self.parameter_name}: {error}") from error
        return rows.filter(**{self.lookup: moment.replace(tzinfo=moment.tzinfo or UTC)})


class Before(Since):
    title = "start, before (UTC)"
    parameter_name = "before"
    lookup = "started_at__lt"
    usual_days = 0


class DimensionFilter(DropdownFilter):
    """Offers the values that occur in the daily totals: records are too many to look for them."""

    kind = ""

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        seen = UsageDay.objects.filter(visible_to(request.user).condition())
        values = set(seen.values_list(self.parameter_name, flat=True).distinct()) - {None, ""}
        names = Names({self.kind: values} if self.kind else {})
        texts = {str(v): names.at(self.kind, v) if self.kind else v for v in values}
        return sorted(texts.items(), key=lambda pair: pair[1].lower())

    def has_output(self) -> bool:
        """Always: else a value would be ignored where none is offered."""
        return True

    def queryset(self, request: HttpRequest, rows: QuerySet[Any]) -> QuerySet[Any]:
        if not (value := self.value()):
            return rows
        if value not in dict(self.lookup_choices):
            raise IncorrectLookupParameters(f"{self.parameter_name}: {value!r} is unknown.")
        return rows.filter(**{self.parameter_name: value})


def _dimension(field: str) -> type[DimensionFilter]:
    kind = field.removesuffix("_id") if field.endswith("_id") else ""
    members = {"parameter_name": field, "title": kind or title(field), "kind": kind}
    return type(f"{field}_filter", (DimensionFilter,), members)


def _give_names(records: list[Any], moment: str = "started_at") -> None:
    """Set the names of users, keys and teams as they were."""
    names = Names(
        {kind: {getattr(record, f"{kind}_id") for record in records} - {None} for kind in NAMED}
    )
    for record in records:
        for kind in NAMED:
            name = names.at(kind, getattr(record, f"{kind}_id"), getattr(record, moment))
            setattr(record, f"{kind}_name", name)


class NamedList(ChangeList):
    result_list: Any

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        self.result_list = list(self.result_list)
        _give_names(self.result_list)


@display(description="Started at (UTC)", ordering="started_at")
def started(record: RequestRecord) -> str:
    return f"{record.started_at:%Y-%m-%d %H:%M:%S}"


@display(description="User, key", header=True)
def caller(record: Any) -> tuple[str, str]:
    return record.user_name, _joined(record.key_name, record.team_name)


@display(description="Version, kind", header=True)
def model(record: RequestRecord) -> tuple[str, str]:
    mode = record.mode if record.mode != "single" else ""
    return record.version_key, _joined(record.kind, record.preset, mode)


@display(description="Outcome", header=True)
def outcome(record: RequestRecord) -> tuple[str, str]:
    return shown(record, "outcome"), record.error_code


@display(description="Tokens, per second", header=True)
def tokens(record: RequestRecord) -> tuple[str, str]:
    return _tokens(record), rate(record.completion_tokens, record.decode_us)


@display(description="TTFT, total", header=True)
def times(record: RequestRecord) -> tuple[str, str]:
    return duration(record.ttft_us), duration(record.total_us)


@display(description="Cost")
def cost(record: RequestRecord) -> str:
    return shown(record, "cost_nano")


def _tokens(row: RequestRecord | RequestStep) -> str:
    return f"{row.prompt_tokens:,} → {row.completion_tokens:,}"


def _joined(*parts: str) -> str:
    return " · ".join(filter(None, parts))


class RecordAdmin(ModelAdmin):
    """Shows rows that nobody changes, not even superusers."""

    change_form_template = "metrics/request.html"
    facts: dict[str, tuple[str, ...]]
    moment = "started_at"

    def has_add_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False

    has_change_permission = has_delete_permission = has_add_permission

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], **options: Any
    ) -> HttpResponse:
        row = options["obj"]
        _give_names([row], self.moment)
        context["show_history"] = False
        context["groups"] = {
            name: [(title(field), shown(row, field)) for field in fields]
            for name, fields in self.facts.items()
        }
        return super().render_change_form(request, context, **options)


@admin.register(RequestRecord)
class RequestRecordAdmin(RecordAdmin):
    facts = {
        "Who": ("user_name", "key_name", "team_name", "end_user", "request_id", "run_id"),
        "Asked": (
            *("started_at", "kind", "requested_model", "version_key", "preset", "mode"),
            *("priority", "streamed"),
        ),
        "Answered": (*("outcome", "error_code", "tier", "fallback", "cost_nano", "settled_at"),),
        "Tokens and times": (
            *("prompt_tokens", "cached_tokens", "completion_tokens"),
            *("computed_prompt_tokens", "computed_completion_tokens"),
            *("ttft_us", "queue_us", "prefill_us", "decode_us", "device_us", "total_us"),
        ),
    }
    list_display = (started, caller, model, outcome, tokens, times, cost, "tier")
    sortable_by = (started,)
    list_display_links = (started,)
    list_filter = (
        Since,
        Before,
        ("outcome", ChoicesDropdownFilter),
        ("error_code", FieldTextFilter),
        *map(_dimension, ("kind", "version_key", "user_id", "key_id", "team_id", "mode", "tier")),
    )
    list_filter_submit = True
    list_fullwidth = True
    list_per_page = 50
    show_facets = admin.ShowFacets.NEVER
    show_full_result_count = False
    paginator = InfinitePaginator
    search_fields = ("run_id",)
    search_help_text = (
        "Whole run id, of any time; or request id or end user, from the start that is filtered by: "
        "7 days ago unless you set it"
    )

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return NamedList

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        if ERROR_FLAG in request.GET:
            text = "No filter applies, since one cannot be read. Write times as 2026-11-18 15:00."
            self.message_user(request, text, messages.ERROR)
        return super().changelist_view(request, extra_context)

    def get_queryset(self, request: HttpRequest) -> QuerySet[RequestRecord]:
        return super().get_queryset(request).filter(visible_to(request.user).condition())

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        text = search_term.strip()
        if not text:
            return queryset, False
        # Only run ids have an index.
        by_run = self.get_queryset(request).filter(run_id=text)
        if by_run.exists():
            return by_run, False
        return queryset.filter(Q(request_id=text) | Q(end_user=text)), False

    def has_view_permission(self, request: HttpRequest, obj: object = None) -> bool:
        """Each member of the staff sees rows: ``get_queryset`` decides which."""
        return bool(request.user.is_staff)

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], **options: Any
    ) -> HttpResponse:
        record = options["obj"]
        steps = RequestStep.objects.filter(run_id=record.run_id, started_at=record.started_at)
        context["bars"] = [
            _bar("Request", record, record.total_us),
            *(_bar(_summary(step), step, record.total_us) for step in steps),
        ]
        return super().render_change_form(request, context, **options)


def _summary(step: RequestStep) -> str:
    facts = (step.version_key, step.outcome, step.error_code, _tokens(step))
    return f"{step.kind} {step.number}: {_joined(*facts)}"


def _bar(name: str, row: Any, whole_us: int) -> dict[str, Any]:
    """The phases of a request or step, as percentages of the request's total time."""
    parts = [
        (phase, colour, duration(us), f"{100 * us / (whole_us or us):.2f}")
        for phase, colour in _PHASES.items()
        if (us := getattr(row, f"{phase}_us"))
    ]
    return {"name": name, "parts": parts}


@display(description="Amount", ordering="delta_nano")
def amount(correction: Correction) -> str:
    return money(correction.delta_nano)


@admin.register(Correction)
class CorrectionAdmin(RecordAdmin):
    moment = "slot"
    facts = {
        "Correction": ("slot", "delta_nano", "reason", "price_id", "made_by", "made_at"),
        "Requests": ("user_name", "key_name", "team_name", "version_key", "kind", "preset"),
    }
    list_display = ("made_at", "slot", "version_key", amount, "reason", "made_by")
    search_fields = ("version_key", "reason", "made_by")
    date_hierarchy = "made_at"
