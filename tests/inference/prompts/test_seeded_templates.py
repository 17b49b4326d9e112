"""Chat templates that the seed file gives to models whose files have none."""

from typing import Any

import pytest
import yaml

from inference.prompts.chat_template import TemplateFailedError, render
from models_registry.catalogue.seeding import SEED_FILE


@pytest.fixture
def gemma() -> str:
    models = yaml.safe_load(SEED_FILE.read_text())["models"]
    (model,) = (model for model in models if model["slug"] == "gemma3-270m")
    template: str = model["versions"][0]["chat_template"]
    return template


def _rendered(template: str, *turns: tuple[str, str]) -> str:
    messages: list[dict[str, Any]] = [{"role": role, "content": text} for role, text in turns]
    return "".join(render(template, messages, (), bos_token="<bos>"))


def test_gemma_template_is_gemmas_format(gemma: str) -> None:
    # As Google documents it: ai.google.dev/gemma/docs/core/prompt-structure
    turns = (("system", "Be brief."), ("user", " Hi "), ("assistant", "Yes?"), ("user", "Bye"))
    assert _rendered(gemma, *turns) == (
        "<bos><start_of_turn>user\nBe brief.\n\nHi<end_of_turn>\n"
        "<start_of_turn>model\nYes?<end_of_turn>\n"
        "<start_of_turn>user\nBye<end_of_turn>\n"
        "<start_of_turn>model\n"
    )


def test_gemma_template_without_instructions(gemma: str) -> None:
    assert _rendered(gemma, ("user", "Hi")) == (
        "<bos><start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\n"
    )


@pytest.mark.parametrize(
    "turns", [[("assistant", "Hi")], [("user", "a"), ("user", "b")], [("user", "a"), ("tool", "b")]]
)
def test_gemma_template_refuses_turns_out_of_order(
    gemma: str, turns: list[tuple[str, str]]
) -> None:
    with pytest.raises(TemplateFailedError, match="user and assistant in turn"):
        _rendered(gemma, *turns)
