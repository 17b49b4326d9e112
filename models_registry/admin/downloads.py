"""Downloads in the admin: progress, cancel and retry."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.utils.safestring import SafeString
from unfold.decorators import display
from unfold.enums import ActionVariant
from unfold.forms import BaseDialogForm

from models_registry.admin import columns
from models_registry.admin.base import ReadOnlyAdmin, RegistryAdmin
from models_registry.admin.dialogs import dialog_action
from models_registry.admin.display import download_progress
from models_registry.files.downloads import cancel_download, retry_download
from models_registry.models import Download


@admin.register(Download)
class DownloadAdmin(ReadOnlyAdmin, RegistryAdmin):
    list_display = (
        *("requested_at", columns.version_link, columns.state, "progress", "error"),
        "requested_by",
    )
    list_filter = ("state", "version__model")
    list_select_related = ("version__model", "requested_by")
    search_fields = ("version__model__slug", "error")
    list_before_template = "models_registry/download_list_before.html"
    fields = readonly_fields = (
        *(columns.version_link, columns.state, "phase", "progress", "error", "requested_by"),
        *("cancelled_by", "requested_at", "started_at", "finished_at", "losses"),
    )
    actions_row = actions_detail = ("cancel", "retry")

    @display(description="progress")
    def progress(self, download: Download) -> SafeString:
        return download_progress(download)

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> list[Any]:
        """Offer cancel for active downloads and retry for those that ended without a file."""
        download = self.row(object_id)
        hidden = "retry" if download.is_active else "cancel"
        shown = super().get_actions_detail(request, object_id)
        if download.state == Download.State.DONE:
            return []
        return [one for one in shown if not one.action_name.endswith(f"_{hidden}")]

    @dialog_action(
        "Cancel",
        icon="close",
        title="Cancel this download?",
        text="The received data is kept for a retry.",
        submit="Cancel the download",
        variant=ActionVariant.DANGER,
    )
    def cancel(self, request: HttpRequest, form: BaseDialogForm, object_id: str) -> HttpResponse:
        download = self.row(object_id)
        was_active = download.is_active
        cancel_download(download, request.user)
        if was_active:
            self.tell(request, f"The download of {download.version} is cancelled.")
        else:
            self.refuse(request, f"The download has ended already: {download.state}.")
        return self.back(request)

    @dialog_action(
        "Retry", icon="refresh", title="Download it again?", text="It continues where it stopped."
    )
    def retry(self, request: HttpRequest, form: BaseDialogForm, object_id: str) -> HttpResponse:
        download = retry_download(self.row(object_id), request.user)
        self.tell(request, f"The file of {download.version} is being downloaded.")
        return self.back(request)
