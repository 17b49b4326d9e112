"""The canonical form: equal for two texts that are re-typings of one question."""

from .facts import out_of_bounds
from .tokens import tokens_of


def canonical_text(text: str) -> str | None:
    """The question in one case and spelling, without greeting and marks; None out of bounds.

    It keeps every other word and the order, so its equality needs no second look.
    """
    if out_of_bounds(text):
        return None
    tokens = tokens_of(text)
    return "\n".join((" ".join(tokens.words), *tokens.exact))
