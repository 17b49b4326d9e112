"""The doors: HTTP through Django, WebSocket through Channels."""

import gc
import os
from importlib import import_module
from typing import Any

import django
from django.conf import settings

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "inference_site.settings")
django.setup(set_prefix=False)

from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from django.urls import path, re_path  # noqa: E402

from caching.questions.words import is_word  # noqa: E402
from inference import tracing  # noqa: E402
from inference.consumers import ChatConsumer  # noqa: E402
from inference_site.handler import Handler  # noqa: E402


async def _refuse_socket(_scope: Any, receive: Any, send: Any) -> None:
    """Refuse a WebSocket at an address without a route; the client sees HTTP 403."""
    await receive()
    await send({"type": "websocket.close"})


django_application = Handler()
_sockets: list[Any] = [
    path("ws", ChatConsumer.as_asgi()),  # type: ignore[arg-type]
    re_path("", _refuse_socket),  # type: ignore[arg-type]
]
application = ProtocolTypeRouter({"http": django_application, "websocket": URLRouter(_sockets)})

tracing.start()
# Not only at the first request, whose client waits.
import_module(settings.ROOT_URLCONF)
if settings.INFERENCE.cache_embedder:
    is_word("")  # reads a dictionary
# What is loaded stays: the garbage collector need not look through it again and again.
gc.collect()
gc.freeze()
