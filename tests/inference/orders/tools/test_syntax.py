"""How a model writes calls, from its template."""

import pytest

from inference.orders.tools.syntax import CallSyntax, decoded, syntax_of, takes_parallel_calls
from tests.inference.orders.tools.examples import template

TOOLLESS = "{% for message in messages %}{{ message.content }}{% endfor %}"


@pytest.mark.parametrize(
    ("name", "syntax"), [("qwen2.5", "hermes"), ("hermes", "hermes"), ("llama3", "llama3")]
)
def test_syntax_is_detected_in_the_template(name: str, syntax: str):
    assert syntax_of(template(name)) == syntax


@pytest.mark.parametrize(
    "text",
    [
        "",
        TOOLLESS,
        # Words about calls, but no way to name the tools.
        "<tool_call> arguments ipython" + TOOLLESS,
        # Qwen3-Coder: the same tag around something else.
        "{% if tools %}<tool_call><function=f>arguments{% endif %}" + TOOLLESS,
        # Llama 3.2, taught to write Python.
        "{% if tools %}ipython [f(x=1)]{% endif %}" + TOOLLESS,
    ],
)
def test_syntax_of_any_other_template_is_json(text: str):
    assert syntax_of(text) == "json"


def test_syntax_knows_templates_with_one_call_at_a_time():
    assert takes_parallel_calls(template("qwen2.5"))
    assert not takes_parallel_calls(template("llama3"))


def test_syntax_survives_encoding():
    syntax = CallSyntax("llama3", ("a", "b-C_1"))
    assert decoded(syntax.encoded()) == syntax
