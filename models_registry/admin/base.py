"""Base classes of the registry's pages and forms."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from django import forms
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.db.models import Model as Row
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from unfold.admin import ModelAdmin

from models_registry.access import OPERATE
from models_registry.admin.display import history_url, page_url
from models_registry.errors import RegistryError
from models_registry.models import (
    Download,
    Model,
    ModelVersion,
    Node,
    Prediction,
    Registration,
    Replica,
)
from models_registry.sources import BadSourceError

# Lookups from replicas and registrations to the rows of a page.
_LOOKUPS: Final[dict[type, str]] = {Model: "version__model", ModelVersion: "version", Node: "node"}
_HISTORY: Final = (Download, Replica, Registration, Prediction)


class RowForm(forms.ModelForm):
    """Saves only the fields that were changed on the page.

    While a page is open, downloads, hosts and other people change its row. Hidden fields keep the
    values from when the page was opened, to find the changed ones.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for field in self.fields.values():
            field.show_hidden_initial = True

    def add_initial_prefix(self, field_name: str) -> str:
        """The name of the hidden field.

        Django's own ends in the field's name, and unfold's sorting by dragging numbers every input
        whose name ends in that of the ordering field.
        """
        return f"{self.add_prefix(field_name)}-opened"

    def save(self, commit: bool = True) -> Any:
        row = super().save(commit=False)
        if commit:
            columns = {field.name for field in row._meta.concrete_fields} & {*self.changed_data}
            row.save(update_fields=None if row._state.adding else columns)
        return row


class ReadOnlyAdmin:
    """A page or inline whose rows change by actions only."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class RegistryAdmin(ModelAdmin):
    """A page whose actions need the permission to operate and whose history is the audit trail."""

    form = RowForm
    list_filter_submit = True
    list_per_page = 50

    def save_model(self, request: HttpRequest, obj: Any, form: RowForm, change: bool) -> None:
        form.save()

    def has_operate_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(request.user.has_perm(OPERATE))

    def history_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        return HttpResponseRedirect(history_url(self.row(object_id)))

    def row(self, object_id: str) -> Any:
        """The row of a page. Raises ``Http404``."""
        try:
            return get_object_or_404(self.model, pk=object_id)
        except (ValidationError, ValueError):  # not even the form of an id
            raise Http404 from None

    def tell(self, request: HttpRequest, text: str) -> None:
        self.message_user(request, text, messages.SUCCESS)

    def refuse(self, request: HttpRequest, reason: object) -> None:
        self.message_user(request, str(reason), messages.ERROR)

    @contextmanager
    def refusals(self, request: HttpRequest, row: Row | None = None) -> Iterator[None]:
        """Show the errors of a block to the user."""
        try:
            yield
        except (RegistryError, BadSourceError) as error:
            self.refuse(request, error)
        except ValidationError as error:
            self.refuse(request, f"{row}: {' '.join(error.messages)}")

    def back(self, request: HttpRequest, row: Row | None = None) -> HttpResponse:
        """Return to the page that an action was started on, else to ``row``, else to the list."""
        came_from = request.headers.get("HX-Current-URL", "")
        if url_has_allowed_host_and_scheme(came_from, {request.get_host()}):
            return redirect(request, came_from)
        options = self.model._meta
        rows = reverse(f"admin:{options.app_label}_{options.model_name}_changelist")
        return redirect(request, page_url(row) if row else rows)


class DeletableAdmin(RegistryAdmin):
    """A page of models, versions or nodes.

    Nobody has the permission to delete single rows of their history, so Django would refuse to
    delete the rows that own it.
    """

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        deleted, counts, lacking, protected = super().get_deleted_objects(objs, request)
        history = {table._meta.verbose_name for table in _HISTORY}
        own = {f"{_LOOKUPS[self.model]}__in": list(objs)}
        replicas = Replica.objects.select_related("version__model", "node").filter(**own)
        live = replicas.exclude(state__in=(Replica.State.STOPPED, Replica.State.FAILED))
        uses = [f"{replica} is {replica.state}: unload it first." for replica in live]
        if self.model is not Node:
            active = Registration.objects.filter(released_at__isnull=True, **own)
            uses += [f"The registration {row} is in use: release it first." for row in active]
        return deleted, counts, lacking - history, [*protected, *uses]


def redirect(request: HttpRequest, url: str) -> HttpResponse:
    """Redirect a browser, or htmx, which follows a header."""
    if request.headers.get("HX-Request"):
        return HttpResponse(headers={"HX-Redirect": url})
    return HttpResponseRedirect(url)
