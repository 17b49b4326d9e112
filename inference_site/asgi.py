"""The doors: HTTP through Django, WebSocket through Channels."""

import gc
import os
from importlib import import_module

import django
from django.conf import settings

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "inference_site.settings")
django.setup(set_prefix=False)

from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from django.urls import path  # noqa: E402

from inference.consumers import ChatConsumer  # noqa: E402
from inference_site.handler import Handler  # noqa: E402

django_application = Handler()
application = ProtocolTypeRouter(
    {
        "http": django_application,
        "websocket": URLRouter([path("ws", ChatConsumer.as_asgi())]),  # type: ignore[arg-type, list-item]
    }
)

# Not only at the first request, whose client waits.
import_module(settings.ROOT_URLCONF)
# What is loaded stays: the garbage collector need not look through it again and again.
gc.collect()
gc.freeze()
