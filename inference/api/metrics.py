"""``/api/metrics``: reports on usage and cost, for people and programs."""

from typing import Any

from django.contrib.auth import get_user_model
from django.http import HttpResponse
from django.utils import timezone
from rest_framework.request import Request

from inference.api.openai.models import status_of, version_named
from inference.api.view import ApiView, json_response, principal_in
from inference.database import in_database
from inference.errors import InvalidRequestError
from inference.principal import METRICS_READ, MODELS_READ
from metrics.reports.formats import csv_of, flat_rows, month_table, usage_html, usage_object
from metrics.reports.latency import latency_report
from metrics.reports.projection import projections
from metrics.reports.query import BadQueryError, Query, read_query
from metrics.reports.usage import Sums, usage_report
from metrics.visibility import Visibility, visible_to


class UsageMetrics(ApiView):
    """The requests that the caller may see, in the last 30 days if the address names no range."""

    required_scope = METRICS_READ
    shows_everything = False
    usual_last = "30d"
    usual_group: tuple[str, ...] = ()
    has_month = False

    async def get(self, request: Request) -> HttpResponse:
        params = {"group": list(self.usual_group)} | dict(request.query_params.lists())
        return await in_database(self._answer, params, principal_in(request).user_id)

    def _answer(self, params: dict[str, list[str]], user_id: int) -> HttpResponse:
        own = visible_to(get_user_model().objects.get(pk=user_id))
        visible = Visibility(everything=True) if self.shows_everything else own
        try:
            query = read_query(params, timezone.now(), visible, self.usual_last)
            report = usage_report(query)
            if query.format == "json":
                answer = usage_object(report)
                return json_response(answer | self._more(query, answer))
            if query.format == "html":
                months = [month_table(query)] if self.has_month else []
                return HttpResponse(usage_html("Usage", [("Usage", report)], months))
        except BadQueryError as error:
            raise InvalidRequestError(str(error), param=error.param) from error
        return HttpResponse(
            csv_of(query, report.rows, Sums().figures()),
            content_type="text/csv; charset=utf-8",
            headers={"Content-Disposition": 'attachment; filename="usage.csv"'},
        )

    def _more(self, query: Query, answer: dict[str, Any]) -> dict[str, Any]:
        """Further or other fields of the JSON answer."""
        return {}


class ServiceMetrics(UsageMetrics):
    """The last 24 hours by model."""

    usual_last = "24h"
    usual_group = ("model",)


class CostMetrics(UsageMetrics):
    """Usage with the cost of the current month: so far, and projected to its end."""

    has_month = True

    def _more(self, query: Query, answer: dict[str, Any]) -> dict[str, Any]:
        return {"projections": [{**one.group, **one.figures()} for one in projections(query)]}


class VersionMetrics(UsageMetrics):
    """Usage and times of a model, or of one version, by version; the last 24 hours if not told."""

    usual_last = "24h"

    async def get(self, request: Request, model_id: str = "") -> HttpResponse:
        kind = "version" if "@" in model_id else "model"
        status = await status_of(model_id)
        if kind == "version":
            version_named(status, model_id)
        params = dict(request.query_params.lists())
        for name in ("group", "filter", "compare", "format"):
            if name in params:
                raise InvalidRequestError(f"{name!r} has no meaning for one model.", param=name)
        params |= {"group": ["version"], "filter": [f"{kind}:{model_id}"]}
        return await in_database(self._answer, params, principal_in(request).user_id)

    def _more(self, query: Query, answer: dict[str, Any]) -> dict[str, Any]:
        ((kind, model_id),) = query.filters
        rows = flat_rows(query, latency_report(query).rows)
        times = {(row["from"], row["version"]): row for row in rows}
        return {
            "object": "model.metrics",
            "model_id": model_id.partition("@")[0],
            "version": model_id if kind == "version" else None,
            "metrics": answer["totals"],
            "data": [times.get((row["from"], row["version"]), {}) | row for row in answer["data"]],
        }


class ModelMetrics(VersionMetrics):
    """The same of all users' requests, which every reader of the registry may see."""

    required_scope = MODELS_READ
    shows_everything = True
