"""Requests of tests of the caches of answers."""

from typing import Any

import redis

from inference.database import in_database
from metrics.ledger import store
from metrics.ledger.check import check
from tests.stack import Api, FakeModel, eventually

PATH = "/v1/chat/completions"


def chat(model: FakeModel, text: str = "What is rain?", **fields: Any) -> dict[str, Any]:
    """A question after a system prompt."""
    messages = [
        {"role": "system", "content": "Answer in German."},
        {"role": "user", "content": text},
    ]
    return {"model": model.slug, "messages": messages, "max_tokens": 32, **fields}


async def asked(api: Api, body: dict[str, Any], **headers: str) -> tuple[str, str]:
    """The status of the cache, and the text."""
    response = await api.post(PATH, body, **headers)
    assert response.status_code == 200, response.content
    text = response.json()["choices"][0]["message"]["content"]
    return response["x-brigade-cache"], text


async def differences(client: "redis.Redis") -> dict[str, int]:
    """The differences that the proof of the ledger finds."""
    await eventually(lambda: not client.hlen(store.OPEN))
    findings = await in_database(check, client)
    assert any("computed tokens" in finding.name for finding in findings)
    return {one.name: one.difference for one in findings if one.difference}


def counted_tokens(client: "redis.Redis", day: str = "*") -> tuple[int, int]:
    """Prompt and completion tokens that hosts have counted on a day, or in all."""
    names = list(client.scan_iter(store.day_key(day)))
    rows = [client.hmget(name, "computed_prompt", "computed_completion") for name in names]
    prompt, completion = (sum(int(row[place] or 0) for row in rows) for place in (0, 1))
    return prompt, completion
