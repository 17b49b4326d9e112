"""Tool calls of the real model: a forced call is one, however little the model knows of tools."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from inference.answers.openai import Answer
from inference.answers.tool_calls import ToolChatFormat
from inference.engine.config import EngineConfig
from inference.engine.engine import Engine
from inference.messages import Delta, Finished, Generation, RunHeader, SamplingParameters, Usage
from inference.orders.parsing import parse
from inference.orders.requests import ChatRequest
from inference.orders.tools.plan import chat_plan
from inference.prompts.tokenizer import Tokenizer
from models_registry.gguf.reader import read_header
from models_registry.rules.spec import ModelSpec
from tests.contract.subjects import MAX_SEQUENCES, STEP_TOKENS, Subject
from tests.inference.engine.generations import complete
from tests.inference.orders.tools.examples import template

BOOK = {
    "type": "object",
    "properties": {
        "title": {"type": "string", "maxLength": 20},
        "genre": {"enum": ["novel", "poem"]},
        "year": {"type": "integer", "minimum": 1400, "maximum": 2100},
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 8}, "maxItems": 2},
    },
    "required": ["title", "genre", "year"],
}
SCHEMAS = {"add_book": BOOK, "list_books": {"type": "object", "properties": {}}}
TOOLS = [
    {"type": "function", "function": {"name": name, "parameters": schema}}
    for name, schema in SCHEMAS.items()
]


@pytest.fixture(scope="module")
def tokenizer() -> Iterator[Tokenizer]:
    subject = Tokenizer(1, 100_000)
    yield subject
    subject.close()


async def answer(
    llama: Subject,
    tokenizer: Tokenizer,
    path: Path,
    chat_template: str,
    max_tokens: int = 200,
    **fields: Any,
) -> dict[str, Any]:
    """The choice of a whole answer."""
    own = chat_template or read_header(path).chat_template or ""
    spec = ModelSpec("smollm2", "smollm2:1", "text_generation", str(path), own, 4096, 4096, 8)
    messages = [{"role": "user", "content": "Add the novel Emma of 1815."}]
    body = parse({"model": "m", "messages": messages, "tools": TOOLS, **fields}, ChatRequest)
    plan = await chat_plan(tokenizer, spec, body)
    prompt = await tokenizer.chat(spec, plan.messages, tools=plan.tools)
    sampling = SamplingParameters(temperature=1.0, seed=fields.get("seed", 0))
    engine = Engine(llama.backend, EngineConfig(llama.kv_cells, MAX_SEQUENCES, STEP_TOKENS))
    item = Generation("g", "smollm2:1", prompt, max_tokens, sampling, grammar=plan.grammar)
    whole = Answer()
    for frame in complete(engine, item)["g"]:
        if isinstance(frame, Delta | Finished):
            whole.take(frame)
    header = RunHeader("r", "chat", 1, "m", "m@v", 1, 1, call_syntax=plan.call_syntax)
    choice: dict[str, Any] = ToolChatFormat(header).whole([whole], Usage(1, 1))["choices"][0]
    return choice


@pytest.mark.parametrize("chat_template", ["", "qwen2.5"])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "tool_choice", ["required", {"type": "function", "function": {"name": "add_book"}}]
)
async def test_llama_forced_to_call_makes_a_call_that_matches_its_schema(
    llama: Subject,
    tokenizer: Tokenizer,
    smollm2_path: Path,
    chat_template: str,
    seed: int,
    tool_choice: Any,
):
    shown = chat_template and template(chat_template)
    fields = {"seed": seed, "tool_choice": tool_choice, "parallel_tool_calls": False}
    choice = await answer(llama, tokenizer, smollm2_path, shown, **fields)
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None
    (call,) = choice["message"]["tool_calls"]
    name = call["function"]["name"]
    assert name == "add_book" or tool_choice == "required"
    jsonschema.validate(json.loads(call["function"]["arguments"]), SCHEMAS[name])


@pytest.mark.parametrize("chat_template", ["", "qwen2.5"])
async def test_llama_that_may_call_says_something(
    llama: Subject, tokenizer: Tokenizer, smollm2_path: Path, chat_template: str
):
    shown = chat_template and template(chat_template)
    choice = await answer(llama, tokenizer, smollm2_path, shown, max_tokens=30)
    if choice["finish_reason"] == "tool_calls":
        for call in choice["message"]["tool_calls"]:
            arguments = json.loads(call["function"]["arguments"])
            jsonschema.validate(arguments, SCHEMAS[call["function"]["name"]])
    assert choice["message"]["content"] or choice["message"]["tool_calls"]
