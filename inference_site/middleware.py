"""Middleware for pages only: the API has no sessions and no forms.

Django runs each of these in a thread, which would take cores from the models.
"""

import re
from contextlib import closing
from typing import Any

from asgiref.sync import markcoroutinefunction, sync_to_async
from django.conf import settings
from django.contrib.auth.middleware import AuthenticationMiddleware
from django.contrib.messages.middleware import MessageMiddleware
from django.contrib.sessions.middleware import SessionMiddleware
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.middleware.clickjacking import XFrameOptionsMiddleware
from django.middleware.common import CommonMiddleware
from django.middleware.csrf import CsrfViewMiddleware
from django.utils.deprecation import MiddlewareMixin
from whitenoise.middleware import WhiteNoiseMiddleware

from models_registry.audit import acting

_API_PATH = re.compile(settings.CORS_URLS_REGEX)


def is_api_path(path: str) -> bool:
    return _API_PATH.match(path) is not None


class _PagesOnly(MiddlewareMixin):
    """Passes API requests on."""

    async def __acall__(self, request: HttpRequest) -> HttpResponseBase:
        if is_api_path(request.path_info):
            response: HttpResponseBase = await self.get_response(request)  # type: ignore[misc]
            return response
        return await super().__acall__(request)


class PageSessions(_PagesOnly, SessionMiddleware):
    pass


class PageCommon(_PagesOnly, CommonMiddleware):
    pass


class PageCsrf(_PagesOnly, CsrfViewMiddleware):
    def process_view(self, request: HttpRequest, *args: Any) -> Any:
        return None if is_api_path(request.path_info) else super().process_view(request, *args)


class PageUsers(_PagesOnly, AuthenticationMiddleware):
    pass


class PageActors(_PagesOnly):
    """Records the logged-in user with the changes that a page makes to the registry."""

    def __call__(self, request: HttpRequest) -> Any:
        # On a synchronous server.
        if self.async_mode or is_api_path(request.path_info):
            return super().__call__(request)
        with acting(request.user):
            return super().__call__(request)

    async def __acall__(self, request: HttpRequest) -> HttpResponseBase:
        if is_api_path(request.path_info):
            return await super().__acall__(request)
        with acting(request.user):
            return await super().__acall__(request)


class PageMessages(_PagesOnly, MessageMiddleware):
    pass


class PageFrames(_PagesOnly, XFrameOptionsMiddleware):
    pass


class StaticFiles(WhiteNoiseMiddleware):
    """WhiteNoise, which is synchronous, with a thread only for requests of a static file."""

    async_capable = True
    sync_capable = False

    def __init__(self, get_response: Any) -> None:
        super().__init__(get_response)
        markcoroutinefunction(self)

    async def __call__(self, request: HttpRequest) -> HttpResponseBase:
        file = self.files.get(request.path_info)
        if file is None:
            response: HttpResponseBase = await self.get_response(request)
            return response
        return await sync_to_async(self._whole)(file, request)

    def _whole(self, file: Any, request: HttpRequest) -> HttpResponse:
        """The file in one piece: Django warns of answers whose pieces are read in a thread."""
        with closing(self.serve(file, request)) as found:
            response = HttpResponse(found.getvalue(), status=found.status_code)
        response.headers = found.headers
        return response
