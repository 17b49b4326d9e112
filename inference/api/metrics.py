"""``/api/metrics``: reports on usage and cost, for people and programs."""

from dataclasses import replace
from typing import Any, Final

from django.contrib.auth import get_user_model
from django.http import HttpResponse
from django.utils import timezone
from rest_framework.request import Request

from inference.api.openai.models import status_of, version_named
from inference.api.view import ApiView, json_response, principal_in
from inference.database import in_database
from inference.errors import InvalidRequestError
from inference.principal import METRICS_READ
from metrics.reports.formats import range_of, usage_csv, usage_html, usage_object
from metrics.reports.latency import latency_report
from metrics.reports.projection import projections
from metrics.reports.query import BadQueryError, Query, read_query
from metrics.reports.usage import usage_report
from metrics.visibility import visible_to

_PERIODS: Final = {
    "": "total",
    "hour": "hourly",
    "day": "daily",
    "week": "weekly",
    "month": "monthly",
}


class UsageMetrics(ApiView):
    """The requests that the caller may see, in the last 30 days if the address names no range."""

    required_scope = METRICS_READ
    usual_last = "30d"
    usual_group: tuple[str, ...] = ()

    async def get(self, request: Request) -> HttpResponse:
        params = {"group": list(self.usual_group)} | dict(request.query_params.lists())
        return await in_database(self._answer, params, principal_in(request).user_id)

    def _answer(self, params: dict[str, list[str]], user_id: int) -> HttpResponse:
        try:
            query = _query(params, user_id, self.usual_last)
            report = usage_report(query)
            if query.format == "json":
                return json_response(usage_object(report) | self._more(query))
        except BadQueryError as error:
            raise InvalidRequestError(str(error), param=error.param) from error
        if query.format == "html":
            return HttpResponse(usage_html("Usage", [("Usage", report)]))
        return HttpResponse(
            usage_csv(report),
            content_type="text/csv; charset=utf-8",
            headers={"Content-Disposition": 'attachment; filename="usage.csv"'},
        )

    def _more(self, query: Query) -> dict[str, Any]:
        """Further fields of the JSON answer."""
        return {}


class ServiceMetrics(UsageMetrics):
    """The last 24 hours by model."""

    usual_last = "24h"
    usual_group = ("model",)


class CostMetrics(UsageMetrics):
    """Usage with the cost of the current month: so far, and projected to its end."""

    def _more(self, query: Query) -> dict[str, Any]:
        return {"projections": [{**one.group, **one.figures()} for one in projections(query)]}


class VersionMetrics(ApiView):
    """Usage and times of a model, or of one version, by version; the last 24 hours if not told."""

    required_scope = METRICS_READ

    async def get(self, request: Request, model_id: str) -> HttpResponse:
        status = await status_of(model_id)
        if "@" in model_id:
            version_named(status, model_id)
        params = dict(request.query_params.lists())
        for name in ("group", "filter", "compare", "format"):
            if name in params:
                raise InvalidRequestError(f"{name!r} has no meaning for one model.", param=name)
        content = await in_database(_of_model, model_id, params, principal_in(request).user_id)
        return json_response(content)


def _query(params: dict[str, list[str]], user_id: int, usual_last: str) -> Query:
    user = get_user_model().objects.get(pk=user_id)
    return read_query(params, timezone.now(), visible_to(user), usual_last)


def _of_model(model_id: str, params: dict[str, list[str]], user_id: int) -> dict[str, Any]:
    slug, _, label = model_id.partition("@")
    kind = "version" if label else "model"
    try:
        query = _query(params, user_id, "24h")
        query = replace(query, groups=("version",), filters=((kind, model_id),))
        report, latency = usage_report(query), latency_report(query)
    except BadQueryError as error:
        raise InvalidRequestError(str(error), param=error.param) from error
    times = {(row.since, row.group["version"]): row.figures() for row in latency.rows}
    period = _PERIODS[query.period]
    data = [
        {
            **range_of(replace(query, since=row.since, until=row.until)),
            "model_id": slug,
            "version": row.group["version"],
            "period": period,
            "metrics": times.get((row.since, row.group["version"]), {}) | row.figures(),
        }
        for row in report.rows
    ]
    return {
        "object": "model.metrics",
        **range_of(query),
        "as_of": report.as_of.astimezone(query.zone).isoformat(),
        "model_id": slug,
        "version": model_id if label else None,
        "period": "total",
        "metrics": report.totals.figures(),
        "data": data,
    }
