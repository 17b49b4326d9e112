"""The variables of a chat template that a request sets: pure."""

import re

from inference.errors import InvalidRequestError
from inference.orders.requests import ChatRequest
from inference.prompts.chat_template import OWN_VARIABLES, Scalar
from models_registry.rules.chat_templates import variables_of_template

_READS_NAMES = re.compile(r"""\b(message|msg|m)(\.name\b|\[['"]name['"]\])""")
# Request parameters that become variables if the template reads them.
TEMPLATE_VARIABLES = frozenset(["reasoning_effort", "enable_thinking"])
_READS_REASONING = re.compile(r"\b(reasoning_content|reasoning|thinking)\b")


def template_variables(
    request: ChatRequest, template: str
) -> tuple[dict[str, Scalar], tuple[str, ...]]:
    """Variables for ``template``, and names of the parameters that it does not read."""
    reads = variables_of_template(template)
    given = request.chat_template_kwargs or {}
    for name in sorted(given.keys() & OWN_VARIABLES):
        raise InvalidRequestError(
            f"The service sets the template's variable {name!r} itself. Leave it out.",
            param=f"chat_template_kwargs.{name}",
        )
    parameters = {name: getattr(request, name) for name in sorted(TEMPLATE_VARIABLES, reverse=True)}
    asked = {name: value for name, value in parameters.items() if value is not None}
    unread = [name for name in asked if name not in reads]
    unread += [f"chat_template_kwargs.{name}" for name in given if name not in reads]
    messages = request.messages
    has_reasoning = any(message.reasoning_text for message in messages)
    if has_reasoning and not _READS_REASONING.search(template):
        unread.append("messages.reasoning_content")
    has_names = any(message.name and message.role != "tool" for message in messages)
    if has_names and not _READS_NAMES.search(template):
        unread.append("messages.name")
    variables = {name: value for name, value in (asked | given).items() if name in reads}
    return variables, tuple(unread)
