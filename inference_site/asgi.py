"""The ASGI application: HTTP through Django, WebSocket through Channels."""

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

# Now, so that the first request does not wait for the import.
import_module(settings.ROOT_URLCONF)
# Modules stay in memory: exclude them from garbage collection.
gc.collect()
gc.freeze()
