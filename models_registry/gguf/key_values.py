"""Typed access to the key-values of a GGUF header."""

from typing import Final

from models_registry.gguf.format import GGUFError, Skipped, Value

MAX_COUNT: Final = 2**31 - 1


class KeyValues:
    """Key-values by type, or ``GGUFError``; ``prefix`` is the architecture in their names."""

    def __init__(self, values: dict[str, Value]) -> None:
        self._values = values
        self.prefix = ""

    def text(self, key: str) -> str | None:
        value = self._values.get(key)
        if value is None:
            return None
        if isinstance(value, Skipped):
            raise GGUFError(f"{key} is {value.length} bytes long, which is more than allowed.")
        if not isinstance(value, bytes):
            raise GGUFError(f"{key} is not a text.")
        if b"\0" in value:  # Postgres cannot store it, and in C it ends the text
            raise GGUFError(f"{key} has a NUL character.")
        try:
            return value.decode()
        except UnicodeDecodeError as error:
            raise GGUFError(f"{key} is not valid UTF-8.") from error

    def number(self, key: str, maximum: int = MAX_COUNT) -> int | None:
        value = self._values.get(key)
        if value is None:
            return None
        return _checked(key, value, maximum)

    def required(self, name: str, maximum: int) -> int:
        key = f"{self.prefix}.{name}"
        value = self.number(key, maximum)
        if not value:
            raise GGUFError(
                f"The header lacks {key}: it is not a language model, or it is damaged."
            )
        return value

    def count(self, name: str, default: int) -> int:
        """A number of the architecture, or the largest of a list."""
        key = f"{self.prefix}.{name}"
        value = self._values.get(key)
        if isinstance(value, tuple):
            return max((_checked(key, item, MAX_COUNT) for item in value), default=default)
        return default if value is None else _checked(key, value, MAX_COUNT)

    def per_block(self, name: str, block_count: int, default: int) -> tuple[int, ...]:
        """Numbers for the blocks, from a list or from one number for all."""
        key = f"{self.prefix}.{name}"
        value = self._values.get(key, default)
        if not isinstance(value, tuple):
            return (_checked(key, value, MAX_COUNT),) * block_count
        if len(value) < block_count:
            raise GGUFError(f"{key} has {len(value)} numbers for {block_count} blocks.")
        return tuple(_checked(key, item, MAX_COUNT) for item in value[:block_count])

    def token_id(self, key: str) -> int | None:
        """The id of a token; None outside the vocabulary, where llama.cpp ignores it, too."""
        value = self.number(key, maximum=2**32 - 1)
        in_vocabulary = value is not None and value < self.length("tokenizer.ggml.tokens")
        return value if in_vocabulary else None

    def flag(self, key: str) -> bool | None:
        value = self._values.get(key)
        if value is not None and not isinstance(value, bool):
            raise GGUFError(f"{key} is not a truth value.")
        return value

    def length(self, key: str) -> int:
        value = self._values.get(key)
        if value is not None and not isinstance(value, Skipped):
            raise GGUFError(f"{key} is not a list of texts.")
        return value.length if value else 0

    def seen(self, key: str) -> frozenset[bytes]:
        value = self._values.get(key)
        return value.seen if isinstance(value, Skipped) else frozenset()


def _checked(key: str, value: object, maximum: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise GGUFError(f"{key} is not a whole number.")
    if not 0 <= value <= maximum:
        raise GGUFError(f"{key} is {value}, outside 0 to {maximum}.")
    return value
