"""Registrations in the admin: which programs count on which versions."""

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.safestring import SafeString
from unfold.decorators import action, display
from unfold.enums import ActionVariant
from unfold.forms import BaseDialogForm

from models_registry.admin.base import ReadOnlyAdmin, RegistryAdmin
from models_registry.admin.display import STATE_LABELS, link
from models_registry.fleet.registrations import release
from models_registry.models import Registration


class InUseFilter(admin.SimpleListFilter):
    """Registrations that still count, or those that were released."""

    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """The two states."""
        return [("in-use", "in use"), ("released", "released")]

    def queryset(
        self, request: HttpRequest, queryset: QuerySet[Registration]
    ) -> QuerySet[Registration]:
        """Those of the chosen state."""
        if self.value() is None:
            return queryset
        return queryset.filter(released_at__isnull=self.value() == "in-use")


@admin.register(Registration)
class RegistrationAdmin(ReadOnlyAdmin, RegistryAdmin):
    """References that programs make and release; those of dead programs are released here."""

    list_display = ("model_id", "requester", "on_version", "state", "since", "last_used_at")
    list_filter = (InUseFilter, "version__model")
    list_select_related = ("version__model",)
    search_fields = ("model_id", "requester", "version__model__slug")
    actions_row = actions_detail = ("release",)

    @display(description="version", ordering="version")
    def on_version(self, registration: Registration) -> SafeString:
        """The version it keeps in memory."""
        return link(registration.version)

    @display(description="state", label=STATE_LABELS, ordering="released_at")
    def state(self, registration: Registration) -> str:
        """Whether it still counts."""
        return "in use" if registration.is_active else "released"

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> list[Any]:
        """Nothing for what is released already."""
        return (
            super().get_actions_detail(request, object_id) if self.row(object_id).is_active else []
        )

    @action(
        description="Release",
        icon="link_off",
        permissions=["operate"],
        variant=ActionVariant.DANGER,
        dialog={
            "title": "Release this registration?",
            "description": "For programs that are gone. One that still runs loses its claim on "
            "the version.",
            "form_submit_text": "Release",
            "form_class": BaseDialogForm,
        },
    )
    def release(self, request: HttpRequest, form: BaseDialogForm, object_id: str) -> HttpResponse:
        """Give up the reference in the program's place."""
        row = self.row(object_id)
        if row.is_active:
            left = release(row, request.user)
            text = f"{row} is released; {left} reference(s) to {row.version} are left."
            self.message_user(request, text, messages.SUCCESS)
        else:
            self.refuse(request, f"{row} was released already.")
        return self.back(request, reverse("admin:models_registry_registration_changelist"))
