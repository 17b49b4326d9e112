"""Request records in the admin, read-only."""

from django.contrib import admin
from django.http import HttpRequest
from unfold.admin import ModelAdmin

from metrics.models import RequestRecord


@admin.register(RequestRecord)
class RequestRecordAdmin(ModelAdmin):
    list_display = (
        "started_at",
        "version_key",
        "outcome",
        "error_code",
        "prompt_tokens",
        "completion_tokens",
        "total_us",
        "request_id",
    )
    list_filter = ("outcome", "kind", "version_key")
    search_fields = ("run_id", "request_id", "end_user")
    date_hierarchy = "started_at"

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False
