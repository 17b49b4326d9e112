"""Registrations in the admin: the programs that refer to versions."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from unfold.decorators import display
from unfold.enums import ActionVariant
from unfold.forms import BaseDialogForm

from models_registry.admin import columns
from models_registry.admin.base import ReadOnlyAdmin, RegistryAdmin
from models_registry.admin.dialogs import dialog_action
from models_registry.admin.display import STATE_COLOURS
from models_registry.fleet.registrations import release
from models_registry.models import Registration


class StateFilter(admin.SimpleListFilter):
    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("in-use", "in use"), ("released", "released")]

    def queryset(
        self, request: HttpRequest, queryset: QuerySet[Registration]
    ) -> QuerySet[Registration]:
        if self.value() is None:
            return queryset
        return queryset.filter(released_at__isnull=self.value() == "in-use")


@admin.register(Registration)
class RegistrationAdmin(ReadOnlyAdmin, RegistryAdmin):
    list_display = (
        *("model_id", "requester", columns.version_link, "state", "since", "last_used_at"),
    )
    list_filter = (StateFilter, "version__model")
    list_select_related = ("version__model",)
    search_fields = ("model_id", "requester", "version__model__slug")
    actions_row = actions_detail = ("release",)

    @display(description="state", label=STATE_COLOURS, ordering="released_at")
    def state(self, registration: Registration) -> str:
        return "in use" if registration.is_active else "released"

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> list[Any]:
        shown: list[Any] = super().get_actions_detail(request, object_id)
        return shown if self.row(object_id).is_active else []

    @dialog_action(
        "Release",
        icon="link_off",
        title="Release this registration?",
        text="For programs that no longer run. A running program loses its reference to the "
        "version.",
        variant=ActionVariant.DANGER,
    )
    def release(self, request: HttpRequest, form: BaseDialogForm, object_id: str) -> HttpResponse:
        row = self.row(object_id)
        if row.is_active:
            left = release(row, request.user)
            self.tell(request, f"{row} is released; {left} reference(s) to {row.version} are left.")
        else:
            self.refuse(request, f"{row} was released already.")
        return self.back(request)
