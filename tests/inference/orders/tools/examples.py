"""Tools, templates and answers that several tests speak of."""

from pathlib import Path
from typing import Any

from inference.orders.tools.schemas import FunctionDefinition, Tool

_TEMPLATES = Path(__file__).parent / "templates"

WEATHER_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "description": "Where"},
        "unit": {"enum": ["celsius", "fahrenheit"]},
    },
    "required": ["city"],
}
WEATHER = Tool("function", FunctionDefinition("get_weather", "The weather now", WEATHER_SCHEMA))
CLOCK = Tool("function", FunctionDefinition("clock"))
TOOLS = [WEATHER, CLOCK]
NAMES = ("get_weather", "clock")

HERMES_CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>'
HERMES_CLOCK = '<tool_call>\n{"name": "clock", "arguments": {}}\n</tool_call>'
LLAMA3_CALL = '{"name": "get_weather", "parameters": {"city": "Paris"}}'
JSON_CALL = '{"name": "get_weather", "arguments": {"city": "Paris"}}'
JSON_CLOCK = '{"name": "clock", "arguments": {}}'


def template(name: str) -> str:
    """A chat template with tools: ``qwen2.5`` (Qwen's own), ``hermes`` or ``llama3``."""
    return (_TEMPLATES / f"{name}.jinja").read_text()
