"""``GET /api/status``: the pool of model hosts."""

from django.http import HttpResponse
from rest_framework.request import Request

from inference.api.view import ApiView, json_response
from inference.pool_report import pool_report
from inference.principal import MODELS_READ
from inference.runs.service import inference_service


class Status(ApiView):
    """How the pool is, what is in memory for whom, and what waits."""

    required_scope = MODELS_READ

    async def get(self, request: Request) -> HttpResponse:
        """The report."""
        return json_response(await pool_report(inference_service()))
