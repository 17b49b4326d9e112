"""Variables that a request sets in its model's chat template: pure."""

import re

from inference.api.schemas import ChatRequest, Scalar
from inference.errors import InvalidRequestError
from inference.prompts.chat_template import OWN_VARIABLES


def template_variables(
    request: ChatRequest, template: str
) -> tuple[dict[str, Scalar], tuple[str, ...]]:
    """Variables for a template, and names of the parameters that it does not read.

    Raises:
        InvalidRequestError: ``chat_template_kwargs`` sets a variable that the service sets.
    """
    reads = set(re.findall(r"\w+", template))
    given = request.chat_template_kwargs or {}
    for name in sorted(given.keys() & OWN_VARIABLES):
        raise InvalidRequestError(
            f"The template's variable {name!r} is set by the service. Leave it out.",
            param=f"chat_template_kwargs.{name}",
        )
    variables: dict[str, Scalar] = {}
    unread = []
    own: dict[str, Scalar] = {
        "reasoning_effort": request.reasoning_effort,
        "enable_thinking": request.enable_thinking,
    }
    for name, value in own.items():
        if name in reads and value is not None:
            variables[name] = value
        elif value is not None:
            unread.append(name)
    for name, value in given.items():
        if name in reads:
            variables[name] = value
        else:
            unread.append(f"chat_template_kwargs.{name}")
    if not reads & {"reasoning_content", "thinking", "reasoning"} and any(
        message.thoughts for message in request.messages
    ):
        unread.append("messages.reasoning_content")
    return variables, tuple(unread)
