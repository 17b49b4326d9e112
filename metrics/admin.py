"""Request records in the admin, to read."""

from django.contrib import admin
from django.http import HttpRequest
from unfold.admin import ModelAdmin

from metrics.models import RequestRecord


@admin.register(RequestRecord)
class RequestRecordAdmin(ModelAdmin):
    """Records are written by the service alone."""

    list_display = (
        "created_at",
        "version_key",
        "outcome",
        "error_code",
        "prompt_tokens",
        "completion_tokens",
        "total_seconds",
        "request_id",
    )
    list_filter = ("outcome", "kind", "version_key")
    search_fields = ("run_id", "request_id", "end_user")
    date_hierarchy = "created_at"

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Nobody adds records by hand."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: object = None) -> bool:
        """Nobody changes them."""
        return False
