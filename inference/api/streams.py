"""``GET`` and ``DELETE /v1/streams/{id}``: follow a run again, or stop it."""

from django.http import HttpResponse
from django.http.response import HttpResponseBase
from rest_framework.request import Request

from inference.answers.openai import CompletionFormat, Format
from inference.answers.tool_calls import chat_format
from inference.api.delivery import resumed_answer
from inference.api.view import ApiView, json_response, principal_in
from inference.errors import InvalidRequestError
from inference.messages import RunHeader
from inference.runs.resume import find


class Streams(ApiView):
    async def get(self, request: Request, run_id: str) -> HttpResponseBase:
        """Events from ``Last-Event-ID`` (or ``?after=``) on; a second reader changes nothing."""
        cursor = request.headers.get("Last-Event-ID") or request.GET.get("after", "")
        principal = principal_in(request)
        return await resumed_answer(principal, run_id, parse_cursor(cursor), _format_of)

    async def delete(self, request: Request, run_id: str) -> HttpResponse:
        run = await find(principal_in(request), run_id)
        return json_response({"id": run_id, "object": "stream", "stopped": await run.stop()})


def parse_cursor(text: str) -> list[int]:
    """Frame numbers, one per choice, from an event id. Raises ``InvalidRequestError``."""
    parts = text.split(",") if text else []
    if not all(part.isdecimal() and len(part) < 10 for part in parts):
        raise InvalidRequestError(
            f"{text!r} is not an event id of a stream, such as '12'.", param="after"
        )
    return [int(part) for part in parts]


def _format_of(header: RunHeader) -> Format:
    return chat_format(header) if header.kind == "chat" else CompletionFormat(header)
