"""Variables that a request sets in its model's chat template: pure."""

import re

from inference.errors import InvalidRequestError
from inference.orders.requests import ChatRequest, Scalar
from inference.prompts.chat_template import OWN_VARIABLES
from models_registry.rules.chat_templates import variables_of_template

_READS_NAMES = re.compile(r"""\b(message|msg|m)(\.name\b|\[['"]name['"]\])""")
TEMPLATE_VARIABLES = frozenset(["reasoning_effort", "enable_thinking"])
"""Parameters that are variables of templates which read them."""
_READS_REASONING = re.compile(r"\b(reasoning_content|reasoning|thinking)\b")


def template_variables(
    request: ChatRequest, template: str
) -> tuple[dict[str, Scalar], tuple[str, ...]]:
    """Variables for a template, and names of the parameters that it does not read.

    Raises:
        InvalidRequestError: ``chat_template_kwargs`` sets a variable that the service sets.
    """
    reads = variables_of_template(template)
    given = request.chat_template_kwargs or {}
    for name in sorted(given.keys() & OWN_VARIABLES):
        raise InvalidRequestError(
            f"The template's variable {name!r} is set by the service. Leave it out.",
            param=f"chat_template_kwargs.{name}",
        )
    variables: dict[str, Scalar] = {}
    unread = []
    for name in sorted(TEMPLATE_VARIABLES, reverse=True):
        value: Scalar = getattr(request, name)
        if name in reads and value is not None:
            variables[name] = value
        elif value is not None:
            unread.append(name)
    for name, value in given.items():
        if name in reads:
            variables[name] = value
        else:
            unread.append(f"chat_template_kwargs.{name}")
    if any(message.thoughts for message in request.messages) and not _READS_REASONING.search(
        template
    ):
        unread.append("messages.reasoning_content")
    if any(message.name and message.role != "tool" for message in request.messages) and (
        not _READS_NAMES.search(template)
    ):
        unread.append("messages.name")
    return variables, tuple(unread)
