"""Runs of several models in the admin: the calls of each on an axis of time, texts, and costs."""

import re
from datetime import timedelta
from difflib import SequenceMatcher
from itertools import pairwise
from typing import Any, Final

from django.contrib import admin
from django.db.models import Prefetch, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin
from unfold.decorators import display

from inference.models import OrchestrationRun, RunStep
from metrics.display import NOTHING, duration, money, shown, title
from metrics.models import RequestRecord
from metrics.names import Names
from metrics.visibility import visible_to
from models_registry.admin.base import ReadOnlyAdmin
from models_registry.admin.display import STATE_COLOURS

_RUN: Final = ("id", "started_at", "mode", "preset", "model", "state", "error_code", "end_user")
# Postgres does not keep the order of the summary.
_SUMMARY: Final = (
    *("answer_from", "stopped_by", "rounds", "confidence", "confidence_method", "requested_mode"),
    *("agreement_score", "agreement_method", "agreement_reason", "agreement_by_round"),
    *("agreement_groups", "consensus", "degraded", "error", "notices"),
)
_MEMBERS: Final = ("#2563eb", "#059669", "#d97706", "#7c3aed", "#0891b2", "#db2777", "#84cc16")
_FAILED: Final = "#dc2626"
_GONE: Final = '<del style="background: #dc262640">{0}</del>'
_COME: Final = '<ins style="background: #16a34a40">{1}</ins>'
_MARKS: Final = {"equal": "{0}", "delete": _GONE, "insert": _COME, "replace": _GONE + _COME}
# Blanks and frequent words are no anchors of a comparison: with them it takes minutes.
_MOST_PARTS: Final = 5000


@display(description="State", label=STATE_COLOURS | {"finished": "success", "partial": "warning"})
def state(run: OrchestrationRun) -> str:
    return run.state


@display(description="Calls, tokens", header=True)
def calls(run: OrchestrationRun) -> tuple[str, str]:
    steps = run.steps.all()
    prompt = sum(step.prompt_tokens for step in steps)
    return f"{len(steps)}", f"{prompt:,} → {sum(step.completion_tokens for step in steps):,}"


@display(description="Time")
def time(row: OrchestrationRun | RunStep) -> str:
    return duration((row.ended_at - row.started_at).total_seconds() * 1e6 if row.ended_at else None)


@display(description="Answer from, end", header=True)
def answer(run: OrchestrationRun) -> tuple[str, str]:
    end = run.error_code or run.summary.get("stopped_by") or ""
    return run.summary.get("answer_from") or NOTHING, end


@admin.register(OrchestrationRun)
class OrchestrationRunAdmin(ReadOnlyAdmin, ModelAdmin):
    change_form_template = "inference/run.html"
    list_display = ("started_at", "mode", "preset", "model", state, calls, time, answer)
    list_filter = ("mode", "state", "preset")
    list_filter_submit = list_fullwidth = True
    ordering = ("-started_at",)
    search_fields = ("id__exact", "=user_id", "=end_user")
    search_help_text = "Whole id of the run or of its user, or end user"

    def get_queryset(self, request: HttpRequest) -> QuerySet[OrchestrationRun]:
        steps = Prefetch("steps", RunStep.objects.defer("said", "text"))
        return super().get_queryset(request).defer("frozen").prefetch_related(steps)

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], **options: Any
    ) -> HttpResponse:
        run = options["obj"]
        steps = list(RunStep.objects.filter(run=run).order_by("member", "started_at", "id"))
        visible = RequestRecord.objects.filter(visible_to(request.user).condition())
        found = visible.filter(run_id__in=[step.generation_id for step in steps])
        records = {record.run_id: record for record in found}
        cost = money(sum(record.cost_nano for record in found))
        user = Names({"user": {run.user_id}}).at("user", run.user_id, run.started_at)
        agreement = (run.summary.get("agreement") or {}).items()
        figures = run.summary | {f"agreement_{name}": value for name, value in agreement}
        # So far, for the axis; it is not saved.
        run.ended_at = run.ended_at or timezone.now()
        context |= {
            "show_history": False,
            "groups": {
                "Run": [(title(name), shown(run, name)) for name in _RUN]
                + [("time", time(run)), ("user", user)]
                + [("cost", f"{cost}, by the records of {len(found)} of {len(steps)} calls")],
                "Answer": [(title(k), _text(figures[k])) for k in _SUMMARY if k in figures],
            },
            "length": time(run),
            "rows": [_row(run, step, records.get(step.generation_id)) for step in steps],
            "changes": _changes(run.mode, steps),
        }
        return super().render_change_form(request, context, **options)


def _row(run: Any, step: RunStep, record: RequestRecord | None) -> dict[str, Any]:
    """A call, and its place on the axis in percent."""
    whole = max(run.ended_at - run.started_at, timedelta.resolution)
    colour = _MEMBERS[step.member % len(_MEMBERS)]
    share = (step.prompt_tokens + step.completion_tokens) / (step.context_tokens or 1)
    return {
        "step": step,
        "record": record,
        "time": time(step),
        "cost": money(record.cost_nano) if record else NOTHING,
        "share": f"{share:.1%}" if step.context_tokens else "",
        "member_colour": colour,
        "colour": _FAILED if step.error_code else colour,
        "left": f"{100 * max((step.started_at - run.started_at) / whole, 0):.2f}",
        "width": f"{100 * max(((step.ended_at or run.ended_at) - step.started_at) / whole, 0):.2f}",
    }


def _text(value: Any) -> str:
    """A value of the summary as people read it."""
    match value:
        case None | "" | []:
            return NOTHING
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.2f}"
        case list():
            return ("; " if isinstance(value[0], list | dict) else ", ").join(map(_text, value))
        case dict():
            return ", ".join(f"{name} {_text(part)}" for name, part in value.items())
    return str(value)


def _changes(mode: str, steps: list[RunStep]) -> list[tuple[str, SafeString]]:
    """The differences between each draft and its revision in a critique or pipeline."""
    said = [s for s in steps if s.text and not s.error_code and s.phase != "critique"]
    said.sort(key=lambda step: step.started_at)
    pairs = pairwise(said) if mode in ("critique", "pipeline") else ()
    return [(f"{old.key} → {new.key}", difference(old.text, new.text)) for old, new in pairs]


def difference(old: str, new: str) -> SafeString:
    """Both texts as one: words that are gone are in ``del``, new ones in ``ins``."""
    before, after = (re.findall(r"\w+|\s+|[^\w\s]", text) for text in (old, new))
    if len(before) + len(after) > _MOST_PARTS:
        return SafeString("The texts are too long to compare.")
    parts = (
        (format_html(_MARKS[kind], "".join(before[i:j]), "".join(after[k:m])),)
        for kind, i, j, k, m in SequenceMatcher(str.isspace, before, after).get_opcodes()
    )
    return format_html_join("", "{}", parts)
