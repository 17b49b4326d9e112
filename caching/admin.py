"""Pages: cached answers, and comparisons that say whether they were given rightly."""

from datetime import timedelta
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.utils import flatten
from django.contrib.auth import get_user_model
from django.db.models import BooleanField, ExpressionWrapper, F, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.timesince import timesince
from unfold.admin import ModelAdmin, StackedInline
from unfold.decorators import action, display
from unfold.forms import BaseDialogForm
from unfold.widgets import (
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanSwitchWidget,
)

from caching.forgetting import Conditions, forget_everywhere
from caching.models import CacheVerdict, SemanticEntry
from caching.semantic import verdicts

_FOUND = {None: "open", True: "agrees", False: "differs"}
_IS_PLAIN = ExpressionWrapper(Q(source=CacheVerdict.Source.HIT), BooleanField())


def _text_field(**options: Any) -> forms.CharField:
    return forms.CharField(required=False, widget=UnfoldAdminTextInputWidget(), **options)


class ForgetForm(BaseDialogForm):
    version = _text_field(help_text="Such as smollm2-135m@q4.")
    preset = _text_field()
    user = forms.ModelChoiceField(
        get_user_model().objects.all(),
        required=False,
        to_field_name="username",
        widget=UnfoldAdminTextInputWidget(),
        help_text="A name of a user.",
    )
    end_user = _text_field(label="End user", help_text="The field user of requests.")
    hours = forms.IntegerField(
        label="Older than, hours",
        required=False,
        min_value=0,
        max_value=8760,
        widget=UnfoldAdminIntegerFieldWidget(),
    )
    key = _text_field(help_text="A key, or its beginning.")
    everything = forms.BooleanField(required=False, widget=UnfoldBooleanSwitchWidget())

    def clean(self) -> dict[str, Any]:
        data: dict[str, Any] = super().clean() or {}
        if not self.errors and bool(data["everything"]) == (self.conditions() != Conditions()):
            # The dialog shows errors of fields only.
            self.add_error("everything", "Give a condition, or tick Everything alone.")
        return data

    def conditions(self) -> Conditions:
        """The conditions of the fields that were filled in."""
        data = self.cleaned_data
        named = {name: data[name] or None for name in ("version", "preset", "end_user", "key")}
        hours, user = data["hours"], data["user"]
        made_before = None if hours is None else timezone.now() - timedelta(hours=hours)
        return Conditions(**named, user=user and user.pk, made_before=made_before)


class ReadOnly:
    """Rows that are changed by actions only."""

    list_filter_submit = list_fullwidth = True

    def has_add_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False


class Compared(ReadOnly):
    """Both questions and both answers, side by side."""

    fields = (
        ("entry", "prompt"),
        ("cached_answer", "answer_text"),
        ("similarity", "found"),
        ("source", "at"),
    )
    readonly_fields = flatten(fields)

    @display(description="cached answer")
    def cached_answer(self, verdict: CacheVerdict) -> str:
        return verdict.entry.answer_text if verdict.entry else "forgotten"

    @display(description="result", label={"agrees": "success", "open": "warning"})
    def found(self, verdict: CacheVerdict) -> str:
        is_plain = verdict.source == CacheVerdict.Source.HIT
        return "not compared" if is_plain else _FOUND[verdict.agrees]


class ComparedInline(Compared, StackedInline):
    model = CacheVerdict
    verbose_name_plural = "hits and comparisons: why did this hit?"
    ordering = ("-at",)
    extra = 0
    per_page = 10
    show_change_link = True
    can_delete = False


@admin.register(SemanticEntry)
class SemanticEntryAdmin(ReadOnly, ModelAdmin):
    list_display = ("__str__", "version_key", "preset", "user_id", "hits", "saved", "age", "status")
    list_filter = ("state", "version_key", "preset")
    search_fields = ("prompt", "answer_text", "=user_id", "=end_user", "key__startswith")
    search_help_text = "Prompt, answer, user id, end user, or the beginning of a key"
    ordering = ("-hits", "-id")
    actions = ("forget",)
    actions_list = ("forget_by_condition",)
    inlines = (ComparedInline,)
    fields = (
        *("prompt", "answer_text", "status", ("version_key", "preset"), ("user_id", "end_user")),
        *(("hits", "last_hit_at"), ("completion_tokens", "saved"), ("created_at", "expires_at")),
        "key",
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[SemanticEntry]:
        tokens = F("hits") * F("completion_tokens")
        rows: QuerySet[SemanticEntry] = super().get_queryset(request).annotate(tokens=tokens)
        return rows.defer("answer")

    @display(description="tokens saved", ordering="tokens")
    def saved(self, entry: Any) -> str:
        return f"{entry.tokens:,}"

    @display(description="age", ordering="-created_at")
    def age(self, entry: SemanticEntry) -> str:
        return timesince(entry.created_at, depth=1)

    @display(description="state", label={"live": "success", "suspect": "warning"}, ordering="state")
    def status(self, entry: SemanticEntry) -> str:
        return entry.state

    def has_delete_permission(self, request: HttpRequest, obj: object = None) -> bool:
        """Django's deletion would leave texts in comparisons."""
        return False

    def has_forget_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("caching.delete_semanticentry"))

    @action(description="Forget", permissions=["forget"])
    def forget(self, request: HttpRequest, entries: QuerySet[SemanticEntry]) -> None:
        count = sum(forget_everywhere(Conditions(key=entry.key))[1] for entry in entries)
        self.message_user(request, f"{count} answer(s) forgotten.", messages.SUCCESS)

    @action(
        description="Forget by condition",
        icon="delete_sweep",
        permissions=["forget"],
        dialog={
            "title": "Forget answers of all caches",
            "description": "Answers that fulfil all conditions are forgotten.",
            "form_class": ForgetForm,
            "form_submit_text": "Forget",
        },
    )
    def forget_by_condition(self, request: HttpRequest, form: ForgetForm) -> HttpResponse:
        answers, entries = forget_everywhere(form.conditions())
        text = f"Forgotten: {answers} answer(s), and {entries} of the semantic cache."
        self.message_user(request, text, messages.SUCCESS)
        page = reverse("admin:caching_semanticentry_changelist")
        return HttpResponse(headers={"HX-Redirect": page})


@admin.register(CacheVerdict)
class CacheVerdictAdmin(Compared, ModelAdmin):
    list_display = ("at", "prompt", "entry", "similarity", "version_key", "preset", "found")
    list_filter = ("agrees", "source", "version_key", "preset")
    list_select_related = ("entry",)
    search_fields = ("prompt", "entry__prompt")
    ordering = (_IS_PLAIN.asc(), F("agrees").asc(nulls_first=True), "-at")
    actions = ("agrees", "differs")

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        for one in verdicts.tallies():
            if one.is_stopped and request.method == "GET":
                text = (
                    f"{one.wrong} of {one.comparisons} answers were not confirmed: the semantic "
                    f"cache of {one.version_key} {one.preset} has stopped. Decide that some agree, "
                    "or delete them, to let it answer again."
                )
                messages.warning(request, text)
        return super().changelist_view(request, extra_context)

    def has_decide_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("caching.change_cacheverdict"))

    @action(description="Agrees: the cached answer fits", permissions=["decide"])
    def agrees(self, request: HttpRequest, rows: QuerySet[CacheVerdict]) -> None:
        self._decide(request, rows, agrees=True)

    @action(description="Differs: the cached answer is wrong", permissions=["decide"])
    def differs(self, request: HttpRequest, rows: QuerySet[CacheVerdict]) -> None:
        self._decide(request, rows, agrees=False)

    def _decide(self, request: HttpRequest, rows: QuerySet[CacheVerdict], agrees: bool) -> None:
        count = verdicts.decide([row.pk for row in rows], agrees)
        self.message_user(request, f"{count} comparison(s) decided.", messages.SUCCESS)
