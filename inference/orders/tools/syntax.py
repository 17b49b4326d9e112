"""How a model writes its calls: found out from its chat template, remembered with the run. Pure."""

import re
from dataclasses import dataclass, field
from typing import Final, Literal

import msgspec

SyntaxName = Literal["hermes", "llama3", "json"]

_READS_TOOLS: Final = re.compile(r"\{[{%][^{}]*\btools\b")


@dataclass(frozen=True)
class Spelling:
    """The text around a call's name and arguments.

    ``opening`` is the tag that begins a call; where ``opening_optional``, a call may also stand
    bare. ``arguments_key`` is the name of the arguments' field, ``separator`` what stands between
    two calls.
    """

    opening: str
    opening_optional: bool
    after_opening: str
    arguments_key: str
    before_closing: str
    closing: str
    separator: str

    def head(self, name: str) -> str:
        """What stands between the opening and the arguments."""
        return f'{{"name": "{name}", "{self.arguments_key}": '


_SPELLINGS: Final[dict[SyntaxName, Spelling]] = {
    "hermes": Spelling("<tool_call>", False, "\n", "arguments", "\n", "</tool_call>", "\n"),
    "llama3": Spelling("<|python_tag|>", True, "", "parameters", "", "", "; "),
    "json": Spelling("", True, "", "arguments", "", "", "\n"),
}


@dataclass(frozen=True)
class CallSyntax:
    """How calls are written in one run, and which tools there are to call."""

    name: SyntaxName
    tools: tuple[str, ...] = field(default=())

    @property
    def spelling(self) -> Spelling:
        """The texts of this syntax."""
        return _SPELLINGS[self.name]

    def encoded(self) -> str:
        """As text, to be remembered with a run."""
        return msgspec.json.encode(self).decode()


def decoded(text: str) -> CallSyntax:
    """The syntax that ``encoded`` made ``text`` of."""
    return msgspec.json.decode(text, type=CallSyntax)


def syntax_of(template: str) -> SyntaxName:
    """How the model behind a chat template writes calls.

    ``hermes`` (Hermes, Qwen) and ``llama3`` where the template reads ``tools`` and shows that
    spelling; other makers (GLM, MiniMax) put something else between Hermes' tags. Any other
    template gets ``json``: our own description of the tools, in which calls are plain JSON
    objects, one per line.
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
    """Whether a template can show several calls of one answer; Llama's own refuses to."""
    return "single tool-call" not in template
