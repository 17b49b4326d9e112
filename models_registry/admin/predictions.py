"""Demand predictions in the admin: their accuracy by version, and each prediction."""

from datetime import timedelta
from typing import Any, Final

from django.conf import settings
from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from unfold.contrib.filters.admin import RangeDateTimeFilter
from unfold.decorators import display

from models_registry.admin import columns
from models_registry.admin.base import ReadOnlyAdmin, RegistryAdmin
from models_registry.admin.display import STATE_COLOURS
from models_registry.fleet.predictions import HEADERS, MEANING, gib_hours, rows_of, tallies
from models_registry.models import Prediction

_DAYS: Final = 7


@admin.register(Prediction)
class PredictionAdmin(ReadOnlyAdmin, RegistryAdmin):
    """The table above the list is that of ``manage.py predictions``."""

    list_display = ("made_at", columns.version_link, "result", "chance", "idle", "acted_on")
    list_display_links = None
    list_filter = ("outcome", "version__model", ("made_at", RangeDateTimeFilter))
    list_select_related = ("version__model",)
    search_fields = ("version__model__slug",)
    list_before_template = "models_registry/prediction_list_before.html"

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        found = tallies(timezone.now() - timedelta(days=_DAYS))
        record = {
            "record_title": f"The last {_DAYS} days",
            "record_footer": f"{MEANING} INFERENCE_DEMAND_PREDICTION is "
            f"{settings.INFERENCE.demand_prediction}.",
            "record": {"headers": HEADERS, "rows": rows_of(found) if found else []},
        }
        return super().changelist_view(request, (extra_context or {}) | record)

    @display(description="outcome", label=STATE_COLOURS, ordering="outcome")
    def result(self, prediction: Prediction) -> str:
        return prediction.outcome

    @display(description="probability", ordering="probability")
    def chance(self, prediction: Prediction) -> str:
        return f"{prediction.probability:.0%}"

    @display(description="idle GiB·h", ordering="wasted_byte_seconds")
    def idle(self, prediction: Prediction) -> str:
        return gib_hours(prediction.wasted_byte_seconds)
