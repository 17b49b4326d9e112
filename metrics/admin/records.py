"""Records of the ledger in the admin: nobody changes them, and ids have their names."""

from typing import Any

from django.http import HttpRequest
from unfold.admin import ModelAdmin
from unfold.views import ChangeList

from metrics.models import Correction
from metrics.names import Names

_NAMED = ("user", "key", "team")


def give_names(rows: list[Any]) -> None:
    """Set the names of users, keys and teams as they were at the time of each row."""
    names = Names({kind: {getattr(row, f"{kind}_id") for row in rows} - {None} for kind in _NAMED})
    for row in rows:
        moment = row.slot if isinstance(row, Correction) else row.started_at
        for kind in _NAMED:
            setattr(row, f"{kind}_name", names.at(kind, getattr(row, f"{kind}_id"), moment))


class NamedList(ChangeList):
    result_list: Any

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        self.result_list = list(self.result_list)
        give_names(self.result_list)


class RecordAdmin(ModelAdmin):
    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return NamedList

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False
