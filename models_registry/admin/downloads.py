"""Downloads in the admin: how far they are, cancel and retry."""

from typing import Any

from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.safestring import SafeString
from unfold.decorators import action, display
from unfold.enums import ActionVariant
from unfold.forms import BaseDialogForm

from models_registry.admin.base import ReadOnlyAdmin, RegistryAdmin
from models_registry.admin.display import STATE_LABELS, download_progress, link
from models_registry.files.downloads import cancel_download, retry_download
from models_registry.models import Download


@admin.register(Download)
class DownloadAdmin(ReadOnlyAdmin, RegistryAdmin):
    """What was asked for, and how it ended; the jobs cluster does the work."""

    list_display = ("requested_at", "of_version", "live_state", "how_far", "error", "requested_by")
    list_filter = ("state", "version__model")
    list_select_related = ("version__model", "requested_by")
    search_fields = ("version__model__slug", "error")
    list_before_template = "models_registry/download_list_before.html"
    fields = readonly_fields = (
        *("of_version", "live_state", "phase", "how_far", "error", "requested_by"),
        *("cancelled_by", "requested_at", "started_at", "finished_at", "losses"),
    )
    actions_row = actions_detail = ("cancel", "retry")

    @display(description="version", ordering="version")
    def of_version(self, download: Download) -> SafeString:
        """Whose file it is."""
        return link(download.version)

    @display(description="state", label=STATE_LABELS, ordering="state")
    def live_state(self, download: Download) -> str:
        """Where it is now."""
        return download.state

    @display(description="progress")
    def how_far(self, download: Download) -> SafeString:
        """A bar, the speed and the time left."""
        return download_progress(download)

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> list[Any]:
        """Cancel what goes on, retry what has ended without the file."""
        download = self.row(object_id)
        pointless = "retry" if download.is_active else "cancel"
        shown = super().get_actions_detail(request, object_id)
        if download.state == Download.State.DONE:
            return []
        return [one for one in shown if not one.action_name.endswith(f"_{pointless}")]

    @action(
        description="Cancel",
        icon="close",
        permissions=["operate"],
        variant=ActionVariant.DANGER,
        dialog={
            "title": "Cancel this download?",
            "description": "What has come is kept for the next try.",
            "form_submit_text": "Cancel the download",
            "form_class": BaseDialogForm,
        },
    )
    def cancel(self, request: HttpRequest, form: BaseDialogForm, object_id: str) -> HttpResponse:
        """Stop it."""
        download = self.row(object_id)
        was_active = download.is_active
        cancel_download(download, request.user)
        if was_active:
            text = f"The download of {download.version} is cancelled."
            self.message_user(request, text, messages.SUCCESS)
        else:
            self.refuse(request, f"It has ended already: {download.state}.")
        return self.back(request, reverse("admin:models_registry_download_changelist"))

    @action(
        description="Retry",
        icon="refresh",
        permissions=["operate"],
        dialog={
            "title": "Download it again?",
            "description": "It goes on from where it stopped.",
            "form_submit_text": "Retry",
            "form_class": BaseDialogForm,
        },
    )
    def retry(self, request: HttpRequest, form: BaseDialogForm, object_id: str) -> HttpResponse:
        """Ask once more."""
        download = retry_download(self.row(object_id), request.user)
        text = f"The file of {download.version} is being downloaded."
        self.message_user(request, text, messages.SUCCESS)
        return self.back(request, reverse("admin:models_registry_download_changelist"))
