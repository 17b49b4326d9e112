"""Which requests a version gets, changed in the admin; each change asks first."""

from collections.abc import Callable

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from unfold.decorators import action
from unfold.enums import ActionVariant
from unfold.forms import BaseDialogForm

from models_registry.admin.base import RegistryAdmin
from models_registry.admin.dialogs import CanaryForm, DeprecateForm
from models_registry.catalogue import rollout
from models_registry.errors import RegistryError
from models_registry.models import ModelVersion

_OPERATE = ["operate"]


class RolloutActions(RegistryAdmin):
    """Default, canary, deprecation."""

    @action(
        description="Make default",
        icon="star",
        permissions=_OPERATE,
        dialog={
            "title": "Make this version the default?",
            "description": "New requests that name only the model get it at once; running ones "
            "finish where they are.",
            "form_submit_text": "Make default",
            "form_class": BaseDialogForm,
        },
    )
    def make_default(
        self, request: HttpRequest, form: BaseDialogForm, object_id: str
    ) -> HttpResponse:
        """Requests that name only the model get it from now on."""
        version = self.row(object_id)
        try:
            rollout.set_default(version, request.user)
        except RegistryError as error:
            self.refuse(request, error)
            return self.back_to(request, version)
        self.tell(request, f"{version} is the default of {version.model}.")
        if not version.replicas.filter(state="ready").exists():
            self.message_user(
                request,
                "It is not in memory: the first request waits until it is loaded.",
                messages.WARNING,
            )
        return self.back_to(request, version)

    @action(
        description="Set canary share",
        icon="percent",
        permissions=_OPERATE,
        dialog={
            "title": "Share of requests for this version",
            "description": "The default answers the others.",
            "form_submit_text": "Set",
            "form_class": CanaryForm,
        },
    )
    def set_canary(self, request: HttpRequest, form: CanaryForm, object_id: str) -> HttpResponse:
        """Try it on some of the requests."""
        percent = form.cleaned_data["percent"]
        return self._roll_out(
            request,
            object_id,
            lambda version: rollout.set_canary(version, percent, request.user),
            f"gets {percent} % of the requests",
        )

    @action(
        description="Deprecate",
        icon="warning",
        permissions=_OPERATE,
        variant=ActionVariant.WARNING,
        dialog={
            "title": "Deprecate this version?",
            "description": "It answers as before, with a warning. Its canary share ends.",
            "form_submit_text": "Deprecate",
            "form_class": DeprecateForm,
        },
    )
    def deprecate(self, request: HttpRequest, form: DeprecateForm, object_id: str) -> HttpResponse:
        """Warn who uses it."""
        note = form.cleaned_data["note"]
        return self._roll_out(
            request,
            object_id,
            lambda version: rollout.deprecate(version, note, request.user),
            "is deprecated",
        )

    @action(
        description="Undo deprecation",
        icon="undo",
        permissions=_OPERATE,
        dialog={
            "title": "Take the warning back?",
            "description": "It answers without a warning again.",
            "form_submit_text": "Undo",
            "form_class": BaseDialogForm,
        },
    )
    def undo_deprecation(
        self, request: HttpRequest, form: BaseDialogForm, object_id: str
    ) -> HttpResponse:
        """Warn no more."""
        return self._roll_out(
            request,
            object_id,
            lambda version: rollout.undo_deprecation(version, request.user),
            "is no longer deprecated",
        )

    def _roll_out(
        self,
        request: HttpRequest,
        object_id: str,
        change: Callable[[ModelVersion], None],
        done: str,
    ) -> HttpResponse:
        version = self.row(object_id)
        try:
            change(version)
        except RegistryError as error:
            self.refuse(request, error)
        except ValidationError as error:
            self.refuse(request, f"{version}: {' '.join(error.messages)}")
        else:
            self.tell(request, f"{version} {done}.")
        return self.back_to(request, version)

    def tell(self, request: HttpRequest, text: str) -> None:
        """Say what was done."""
        self.message_user(request, text, messages.SUCCESS)

    def back_to(self, request: HttpRequest, version: ModelVersion) -> HttpResponse:
        """Return to where the action was started, else to the version's page."""
        page = reverse("admin:models_registry_modelversion_change", args=[version.pk])
        return self.back(request, page)
