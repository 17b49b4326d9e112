"""The answer to a client that has left ends, whatever happens to its cancellation."""

import asyncio
from typing import Any

import pytest

from inference_site import handler as handler_module
from inference_site.handler import Handler


class Left:
    """The exchange with a client that has left already."""

    body = send = None

    async def left(self) -> None:
        """Return at once."""


async def test_answer_whose_cancellation_was_swallowed_is_cancelled_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(handler_module, "CANCEL_AGAIN_SECONDS", 0.01)
    cancellations = 0

    async def answer(*_: object) -> None:
        nonlocal cancellations
        while cancellations < 3:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancellations += 1

    handler: Any = Handler()
    monkeypatch.setattr(handler, "create_request", lambda *_: (None, None))
    monkeypatch.setattr(handler, "_answer", answer)
    async with asyncio.timeout(10):
        await handler._answer_api({"type": "http", "path": "/v1/models", "headers": []}, Left())
    assert cancellations == 3
