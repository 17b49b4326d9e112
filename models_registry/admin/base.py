"""What all pages of the registry share: who may act, where history is, how an action answers."""

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.utils.http import url_has_allowed_host_and_scheme
from unfold.admin import ModelAdmin

from models_registry.access import OPERATE
from models_registry.admin.display import history_url
from models_registry.admin.forms import RowForm


class ReadOnlyAdmin:
    """Mixed into pages, and inlines, of rows that people change by actions alone, or not at all."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody adds a row."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody edits one."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody deletes one by itself."""
        return False


class RegistryAdmin(ModelAdmin):
    """A page whose actions need the permission to operate, and whose history is the audit trail."""

    form = RowForm
    list_filter_submit = True
    list_per_page = 50

    def save_model(self, request: HttpRequest, obj: Any, form: RowForm, change: bool) -> None:
        """Save what the form says was changed."""
        form.save()

    def has_operate_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Whether the user may change what is in memory, downloaded and served."""
        return bool(request.user.has_perm(OPERATE))

    def history_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """The row's entries of the audit trail, which has changes of commands and the API too."""
        return HttpResponseRedirect(history_url(self.row(object_id)))

    def row(self, object_id: str) -> Any:
        """The row of a page. Raises ``Http404``."""
        return get_object_or_404(self.model, pk=object_id)

    def back(self, request: HttpRequest, fallback: str) -> HttpResponse:
        """Return to the page that an action was started on.

        Dialogs are sent by htmx, which follows a header; without JavaScript it is a redirect.

        Args:
            request: of the action.
            fallback: where to where that page is not known.
        """
        came_from = request.headers.get("HX-Current-URL", "")
        is_ours = url_has_allowed_host_and_scheme(came_from, {request.get_host()})
        target = came_from if is_ours else fallback
        if request.headers.get("HX-Request"):
            return HttpResponse(headers={"HX-Redirect": target})
        return HttpResponseRedirect(target)

    def refuse(self, request: HttpRequest, reason: object) -> None:
        """Say why something was not done."""
        self.message_user(request, str(reason), messages.ERROR)
