"""Django behind ASGI, with the API spared what only pages need."""

import asyncio
from typing import Any, cast

from django.core.exceptions import RequestAborted
from django.core.handlers.asgi import ASGIHandler, ASGIRequest, get_script_prefix
from django.http.response import HttpResponseBase
from django.urls import set_script_prefix

from inference_site.middleware import API_PATHS


class Handler(ASGIHandler):
    """Handles API requests on the event loop alone.

    Django's own starts a thread for every request, in which it closes database connections of
    that thread at the request's beginning and end. What the API asks of the database, it asks in
    threads that look after their connections themselves.
    """

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request; a client that leaves cancels its view."""
        if not scope["path"].startswith(API_PATHS):
            await super().__call__(scope, receive, send)
            return
        try:
            body = await self.read_body(receive)
        except RequestAborted:
            return
        with body:
            set_script_prefix(get_script_prefix(scope))
            request, refusal = self.create_request(scope, body)
            leaving = asyncio.create_task(self.listen_for_disconnect(receive))
            answering = asyncio.create_task(self._answer(request, refusal, send))
            try:
                await asyncio.wait((leaving, answering), return_when=asyncio.FIRST_COMPLETED)
            finally:
                leaving.cancel()
                answering.cancel()
                outcomes = await asyncio.gather(leaving, answering, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, Exception) and not isinstance(outcome, RequestAborted):
                raise outcome

    async def _answer(
        self, request: ASGIRequest | None, refusal: HttpResponseBase | None, send: Any
    ) -> None:
        response = refusal or await self.run_get_response(cast("ASGIRequest", request))
        try:
            await self.send_response(response, send)
        finally:
            response.close()
