"""Tokenise ``prompt`` and ``input``, in all forms that OpenAI allows."""

from inference.errors import InvalidRequestError
from inference.prompts.marks import Marks
from inference.prompts.tokenizer import Tokenizer
from models_registry.rules.spec import ModelSpec

Input = str | list[str | int | list[int]]


async def token_inputs(
    tokenizer: Tokenizer,
    spec: ModelSpec,
    value: Input,
    param: str,
    *,
    most: int,
    marks: Marks = "none",
) -> list[list[int]]:
    """Token ids of each of at most ``most`` inputs; ``marks`` as in ``tokenize_text``."""
    if isinstance(value, str):
        value = [value]
    texts = [item for item in value if isinstance(item, str)]
    ids = [item for item in value if isinstance(item, int)]
    lists = [item for item in value if isinstance(item, list)]
    if max(len(texts), len(ids), len(lists)) != len(value):
        raise InvalidRequestError(
            f"{param!r} mixes texts and token ids. Send only one of the two forms.", param=param
        )
    if max(len(texts), len(lists)) > most:
        raise InvalidRequestError(
            f"{param!r} has {len(value)} inputs; at most {most} are allowed in this request. "
            "Send fewer at a time.",
            param=param,
        )
    if texts:
        inputs = [await tokenizer.text(spec, text, param, marks=marks) for text in texts]
    else:
        inputs = lists or [ids]
        size = await tokenizer.vocabulary_size(spec)
        largest = max((token for tokens in inputs for token in tokens), default=0)
        if largest >= size:
            raise InvalidRequestError(
                f"{largest} is not a token id of this model (0 to {size - 1}).", param=param
            )
    for index, tokens in enumerate(inputs):
        if not tokens or (texts and not texts[index]):
            raise InvalidRequestError(f"Input {index} of {param!r} is empty.", param=param)
    return inputs
