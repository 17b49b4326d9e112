"""The WebSocket route."""

from django.urls import path

from inference.consumers import ChatConsumer

websocket_urlpatterns = [path("ws", ChatConsumer.as_asgi())]  # type: ignore[arg-type]
