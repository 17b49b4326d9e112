"""``GET /api/status``: the pool of model hosts."""

from django.http import HttpResponse
from rest_framework.request import Request

from inference.api.view import ApiView, json_response
from inference.pool_report import pool_report
from inference.principal import MODELS_READ


class Status(ApiView):
    required_scope = MODELS_READ

    async def get(self, request: Request) -> HttpResponse:
        return json_response(await pool_report())
