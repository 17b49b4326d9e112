"""``GET`` and ``DELETE /v1/streams/{id}``: follow a run again, or stop it."""

from django.http import HttpResponse
from django.http.response import HttpResponseBase
from rest_framework.request import Request

from inference.answers.openai import CompletionFormat, Format
from inference.answers.tool_calls import chat_format
from inference.api.delivery import resumed_response
from inference.api.view import ApiView, json_response, principal_in
from inference.errors import InvalidRequestError
from inference.runs.run import Run
from inference.runs.service import inference_service


class Streams(ApiView):
    """A run's stream, by the id of its response."""

    async def get(self, request: Request, run_id: str) -> HttpResponseBase:
        """Events from ``Last-Event-ID`` (or ``?after=``) on; a second reader changes nothing."""
        service = inference_service()
        cursor = request.headers.get("Last-Event-ID") or request.GET.get("after", "")
        run = await service.find_run(principal_in(request), run_id, parse_cursor(cursor))
        return await resumed_response(service, run, _format_of(run))

    async def delete(self, request: Request, run_id: str) -> HttpResponse:
        """Stop what still runs of it."""
        service = inference_service()
        run = await service.find_run(principal_in(request), run_id, None)
        stopped = await run.stop()
        return json_response({"id": run_id, "object": "stream", "stopped": stopped})


def parse_cursor(text: str) -> list[int] | None:
    """Frame numbers, one per choice, from an event id. Raises ``InvalidRequestError``."""
    if not text:
        return None
    parts = text.split(",")
    if not all(part.isdecimal() and len(part) < 10 for part in parts):
        raise InvalidRequestError(
            f"{text!r} is not an event id of a stream, such as '12'.", param="after"
        )
    return [int(part) for part in parts]


def _format_of(run: Run) -> Format:
    return chat_format(run.header) if run.header.kind == "chat" else CompletionFormat(run.header)
