"""``POST /v1/chat/completions``."""

from django.http.response import HttpResponseBase
from rest_framework.request import Request

from inference.answers.tool_calls import chat_format
from inference.api.delivery import answer
from inference.api.view import ApiView, body_of, note_ignored, principal_in
from inference.orders.chat import chat_order
from inference.orders.defaults import check_stream_options
from inference.orders.requests import ChatRequest
from inference.runs.runtime import runtime


class ChatCompletions(ApiView):
    async def post(self, request: Request) -> HttpResponseBase:
        body = body_of(request, ChatRequest, runtime().settings.max_body_bytes)
        check_stream_options(body)
        order = await chat_order(runtime(), body)
        note_ignored(request, order.ignored)
        return await answer(order, principal_in(request), chat_format, streamed=bool(body.stream))
