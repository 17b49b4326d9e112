"""``POST /v1/completions``."""

from django.http.response import HttpResponseBase
from rest_framework.request import Request

from inference.answers.openai import CompletionFormat
from inference.api.delivery import answer
from inference.api.view import ApiView, body_of, principal_in
from inference.orders.completion import completion_order
from inference.orders.defaults import check_stream_options
from inference.orders.requests import CompletionRequest
from inference.runs.runtime import runtime


class Completions(ApiView):
    async def post(self, request: Request) -> HttpResponseBase:
        body = body_of(request, CompletionRequest, runtime().settings.max_body_bytes)
        check_stream_options(body)
        order = await completion_order(runtime(), body)
        principal = principal_in(request)
        return await answer(order, principal, CompletionFormat, streamed=bool(body.stream))
