"""Corrections of costs in the admin."""

from typing import Any

from django.contrib import admin
from unfold.decorators import display

from metrics.admin.records import RecordAdmin
from metrics.display import money
from metrics.models import Correction


@display(description="User")
def user(correction: Any) -> str:
    return correction.user_name


@display(description="Amount", ordering="delta_nano")
def amount(correction: Correction) -> str:
    return money(correction.delta_nano)


@admin.register(Correction)
class CorrectionAdmin(RecordAdmin):
    list_display = ("made_at", "slot", "version_key", user, amount, "reason", "made_by")
    search_fields = ("version_key", "reason", "made_by")
    date_hierarchy = "made_at"
