"""Middleware that pages need and the API does not.

Django runs each of these in a thread, one after the other. On the API, which has no sessions and
no forms, that would only cost: several hops per request, on cores that the models want.
"""

import re
from typing import Any

from asgiref.sync import markcoroutinefunction, sync_to_async
from django.conf import settings
from django.contrib.auth.middleware import AuthenticationMiddleware
from django.contrib.messages.middleware import MessageMiddleware
from django.contrib.sessions.middleware import SessionMiddleware
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.middleware.clickjacking import XFrameOptionsMiddleware
from django.middleware.common import CommonMiddleware
from django.middleware.csrf import CsrfViewMiddleware
from django.utils.deprecation import MiddlewareMixin
from whitenoise.middleware import WhiteNoiseMiddleware

from models_registry.audit import acting

_API_PATH = re.compile(settings.CORS_URLS_REGEX)


def is_api_path(path: str) -> bool:
    """Whether a request is for a program rather than a person."""
    return _API_PATH.match(path) is not None


def is_api(request: HttpRequest) -> bool:
    """The same of a request."""
    return is_api_path(request.path_info)


class _PagesOnly(MiddlewareMixin):
    """Steps aside on the API."""

    async def __acall__(self, request: HttpRequest) -> HttpResponseBase:
        if is_api(request):
            response: HttpResponseBase = await self.get_response(request)  # type: ignore[misc]
            return response
        return await super().__acall__(request)


class PageSessions(_PagesOnly, SessionMiddleware):
    """Sessions for pages."""


class PageCommon(_PagesOnly, CommonMiddleware):
    """Slashes and content lengths for pages."""


class PageCsrf(_PagesOnly, CsrfViewMiddleware):
    """Forms of pages are protected; API requests carry a key instead of a cookie."""

    def process_view(self, request: HttpRequest, *args: Any) -> Any:
        """Check a form."""
        return None if is_api(request) else super().process_view(request, *args)


class PageUsers(_PagesOnly, AuthenticationMiddleware):
    """Who is logged in, for pages."""


class PageActors(_PagesOnly):
    """Notes who is logged in with the changes that a page makes to the registry."""

    def __call__(self, request: HttpRequest) -> Any:
        """Go on as that user, on a synchronous server."""
        if self.async_mode or is_api(request):
            return super().__call__(request)
        with acting(request.user):
            return super().__call__(request)

    async def __acall__(self, request: HttpRequest) -> HttpResponseBase:
        """Go on as that user."""
        if is_api(request):
            return await super().__acall__(request)
        with acting(request.user):
            return await super().__acall__(request)


class PageMessages(_PagesOnly, MessageMiddleware):
    """Messages after an action, for pages."""


class PageFrames(_PagesOnly, XFrameOptionsMiddleware):
    """No foreign frames around pages."""


class StaticFiles(WhiteNoiseMiddleware):
    """WhiteNoise, which knows no async, without a thread for what is no file."""

    async_capable = True
    sync_capable = False

    def __init__(self, get_response: Any) -> None:
        super().__init__(get_response)
        markcoroutinefunction(self)

    async def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Serve a static file, or ask the next."""
        file = self.files.get(request.path_info)
        if file is None:
            response: HttpResponseBase = await self.get_response(request)
            return response
        return await sync_to_async(self.serve)(file, request)
