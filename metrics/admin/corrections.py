"""Corrections of costs in the admin, read-only."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from unfold.admin import ModelAdmin
from unfold.decorators import display
from unfold.views import ChangeList

from metrics.display import money
from metrics.models import Correction
from metrics.names import Names


class NamedCorrections(ChangeList):
    """Reads the names of the users of a page in one query."""

    result_list: Any

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        self.result_list = list(self.result_list)
        names = Names({"user": {correction.user_id for correction in self.result_list}})
        for correction in self.result_list:
            correction.user_name = names.at("user", correction.user_id, correction.slot)


@display(description="User")
def user(correction: Any) -> str:
    return correction.user_name


@display(description="Quarter of an hour (UTC)", ordering="slot")
def slot(correction: Correction) -> str:
    return f"{correction.slot:%Y-%m-%d %H:%M}"


@display(description="Amount", ordering="delta_nano")
def amount(correction: Correction) -> str:
    return money(correction.delta_nano)


@admin.register(Correction)
class CorrectionAdmin(ModelAdmin):
    list_display = ("made_at", slot, "version_key", user, amount, "reason", "made_by")
    search_fields = ("version_key", "reason", "made_by")
    date_hierarchy = "made_at"

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return NamedCorrections

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False
