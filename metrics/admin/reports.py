"""Reports by e-mail in the admin, with the deliveries of each."""

from typing import Any

from django.conf import settings
from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse
from unfold.admin import ModelAdmin, TabularInline

from metrics.models import ReportDelivery, ReportSubscription


class DeliveryInline(TabularInline):
    model = ReportDelivery
    fields = readonly_fields = ("period_start", "sent_at", "error")
    extra = 0
    can_delete = False

    def has_add_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False

    def has_view_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return True


@admin.register(ReportSubscription)
class ReportSubscriptionAdmin(ModelAdmin):
    """Each report shows what its user may see, so whoever edits this page may read everything."""

    list_display = ("email", "period", "user", "is_active")
    search_fields = ("email", "user__username")
    autocomplete_fields = ("user",)
    inlines = (DeliveryInline,)

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        if not settings.EMAIL_HOST and request.method == "GET":
            messages.warning(request, "No report is sent: EMAIL_HOST is not set.")
        return super().changelist_view(request, extra_context)
