"""Where the running service is, and what all clients are asked."""

import json
import os
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import BaseModel

FIRST_RUN = Path(__file__).resolve().parents[2] / "var" / "first_run.json"


class Person(BaseModel):
    """A person."""

    name: str
    age: int
    role: Literal["engineer", "poet"]


WEATHER_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}},
    "required": ["city"],
}
WEATHER_TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather of a city.",
        "parameters": WEATHER_SCHEMA,
    },
}


class Service(BaseModel):
    """A running service, the model that answers, and what it is asked."""

    base_url: str
    api_key: str
    model: str
    question: str = "Write one sentence about the sea."
    facts: str = "Ada is 36 years old and an engineer. Give her as JSON."
    weather_question: str = "What is the weather in Paris?"
    weather: str = "18 degrees and sunny in Paris"
    after_weather: str = "Say that in one sentence."
    weather_tool: dict[str, Any] = WEATHER_TOOL
    person: type[Person] = Person


@pytest.fixture(scope="session")
def service() -> Service:
    """From ``BASE_URL`` and ``API_KEY``, or of the service that was started in this checkout."""
    names = ("BASE_URL", "API_KEY")
    if not all(name in os.environ for name in names) and not FIRST_RUN.exists():
        pytest.fail("Start the service (make run), or set BASE_URL and API_KEY.")
    first_run = json.loads(FIRST_RUN.read_text()) if FIRST_RUN.exists() else {}
    base_url, api_key = (os.environ.get(name) or first_run[name.lower()] for name in names)
    model = os.environ.get("MODEL", "smollm2-135m")
    return Service(base_url=f"{base_url}/v1", api_key=api_key, model=model)
