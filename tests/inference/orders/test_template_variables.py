"""Variables of chat templates that requests set."""

from typing import Any

import pytest

from inference.errors import InvalidRequestError
from inference.orders.parsing import parse
from inference.orders.requests import ChatRequest
from inference.orders.template_variables import template_variables
from inference.prompts.chat_template import OWN_VARIABLES


def request(**fields: Any) -> ChatRequest:
    messages = [{"role": "user", "content": "x"}]
    return parse({"model": "m", "messages": messages, **fields}, ChatRequest)


@pytest.mark.parametrize(
    ("fields", "template", "variables", "unread"),
    [
        ({}, "", {}, ()),
        ({"reasoning_effort": "low"}, "{{ reasoning_effort }}", {"reasoning_effort": "low"}, ()),
        ({"reasoning_effort": "low"}, "{{ effort }}", {}, ("reasoning_effort",)),
        ({"reasoning_effort": "low"}, "reasoning_effort", {}, ("reasoning_effort",)),
        ({"enable_thinking": False}, "{{ enable_thinking }}", {"enable_thinking": False}, ()),
        (
            {"chat_template_kwargs": {"a": 1, "b": None}},
            "{% if b %}{% endif %}",
            {"b": None},
            ("chat_template_kwargs.a",),
        ),
        (
            {"enable_thinking": True, "chat_template_kwargs": {"enable_thinking": False}},
            "{{ enable_thinking }}",
            {"enable_thinking": False},
            (),
        ),
    ],
)
def test_template_variables_are_those_that_the_template_reads(
    fields: dict[str, Any], template: str, variables: dict[str, Any], unread: tuple[str, ...]
):
    assert template_variables(request(**fields), template) == (variables, unread)


@pytest.mark.parametrize("name", sorted(OWN_VARIABLES))
def test_template_variables_of_the_service_cannot_be_set(name: str):
    with pytest.raises(InvalidRequestError, match=name) as error:
        template_variables(request(chat_template_kwargs={name: 1}), name)
    assert error.value.param == f"chat_template_kwargs.{name}"


@pytest.mark.parametrize(
    "kwargs",
    [{"a": [1]}, {"a": {}}, {"a-b": 1}, {"_a": 1}, dict.fromkeys(map("a{}".format, range(21)))],
)
def test_template_variables_are_few_scalars_with_names(kwargs: dict[str, Any]):
    with pytest.raises(InvalidRequestError) as error:
        request(chat_template_kwargs=kwargs)
    assert str(error.value.param).startswith("chat_template_kwargs")


def test_template_variables_name_reasoning_that_the_template_does_not_read():
    said = {"role": "assistant", "content": "x", "reasoning": "why"}
    body = request(messages=[said])
    assert template_variables(body, "{{ content }}")[1] == ("messages.reasoning_content",)
    assert template_variables(body, "{{ reasoning_content }}")[1] == ()
