"""How a model writes tool calls, detected in its chat template. Pure."""

import re
from dataclasses import dataclass
from typing import Final, Literal

import msgspec

SyntaxName = Literal["hermes", "llama3", "json"]

_READS_TOOLS: Final = re.compile(r"\{[{%][^{}]*\btools\b")


@dataclass(frozen=True)
class Spelling:
    """The text around a call's name and arguments; ``separator`` stands between two calls."""

    opening: str
    opening_optional: bool
    after_opening: str
    arguments_key: str
    before_closing: str
    closing: str
    separator: str

    def head(self, name: str) -> str:
        """The text between ``after_opening`` and the arguments."""
        return f'{{"name": "{name}", "{self.arguments_key}": '


_SPELLINGS: Final[dict[SyntaxName, Spelling]] = {
    "hermes": Spelling("<tool_call>", False, "\n", "arguments", "\n", "</tool_call>", "\n"),
    "llama3": Spelling("<|python_tag|>", True, "", "parameters", "", "", "; "),
    "json": Spelling("", True, "", "arguments", "", "", "\n"),
}


@dataclass(frozen=True)
class CallSyntax:
    name: SyntaxName
    tools: tuple[str, ...] = ()

    @property
    def spelling(self) -> Spelling:
        return _SPELLINGS[self.name]

    def encoded(self) -> str:
        return msgspec.json.encode(self).decode()


def decoded(text: str) -> CallSyntax:
    return msgspec.json.decode(text, type=CallSyntax)


def syntax_of(template: str) -> SyntaxName:
    """The call syntax of a model, by its chat template.

    ``hermes`` (Hermes, Qwen) and ``llama3`` if the template reads ``tools`` and shows that
    spelling; GLM and MiniMax use Hermes' tags with other content. Otherwise ``json``: we describe
    the tools in a system message and ask for calls as plain JSON objects, one per line.
    """
    if not _READS_TOOLS.search(template):
        return "json"
    shows_json = re.search(r'\\?"arguments\\?": ', template)
    others = ("<tool_calls>", "<function=", "<arg_key>")
    if "<tool_call>" in template and shows_json and not any(tag in template for tag in others):
        return "hermes"
    if "ipython" in template and re.search(r'\\?"parameters\\?": ', template):
        return "llama3"
    return "json"


def takes_parallel_calls(template: str) -> bool:
    """Whether a template accepts several calls in one answer; Llama's raises an error."""
    return "single tool-call" not in template
