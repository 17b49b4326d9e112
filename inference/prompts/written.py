"""Templates whose own text can be told from the text they are given.

Both end up in one string, in which ``<|im_start|>`` from the one cannot be told from the other.
So every constant of a template is a ``Written``, which remembers what of it is the template's own
when texts are joined. To comparisons, filters and methods it is the plain text; what they make is
taken for text from outside, the safe side.
"""

import re
from collections.abc import Callable, Iterable
from typing import Any, Self

from jinja2 import TemplateRuntimeError, nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.sandbox import ImmutableSandboxedEnvironment

# Unicode noncharacters: valid in memory, never in interchanged text.
OPEN, CLOSE = "\ufdd0", "\ufdd1"
MAX_CHARACTERS = 4_000_000
_CHARACTER = re.compile(f"[^{OPEN}{CLOSE}]")
_OWN = re.compile(f"{OPEN}([^{CLOSE}]*){CLOSE}")


class Written(str):
    """A text with what the template wrote of it; see ``own`` and ``joined``."""

    __slots__ = ("_shown",)
    _shown: str

    def __new__(cls, text: str, marked: str | None = None) -> Self:
        """``marked`` is the text as ``shown`` gives it; without, nothing is the template's."""
        self = super().__new__(cls, text)
        self._shown = shown(text) if marked is None else marked
        return self

    def __add__(self, other: str) -> str:
        if not isinstance(other, str):
            return NotImplemented
        return joined((self, other))

    def __radd__(self, other: str) -> str:
        return joined((other, self))

    def strip(self, chars: str | None = None) -> str:
        return self.lstrip(chars).rstrip(chars)

    def lstrip(self, chars: str | None = None) -> str:
        count = len(self) - len(super().lstrip(chars))
        return _of(_CHARACTER.sub("", self._shown, count)) if count else self

    def rstrip(self, chars: str | None = None) -> str:
        count = len(self) - len(super().rstrip(chars))
        return _of(_CHARACTER.sub("", self._shown[::-1], count)[::-1]) if count else self


def own(text: str) -> Written:
    """A text that the template wrote."""
    return Written(text, f"{OPEN}{text}{CLOSE}" if text else "")


def shown(value: object) -> str:
    """A value as text, with what the template wrote of it between OPEN and CLOSE.

    Text from outside has neither: what an escape of it stands for may come out as one.
    """
    if isinstance(value, Written):
        return value._shown
    text = str(value)
    return text.replace(OPEN, "").replace(CLOSE, "") if OPEN in text or CLOSE in text else text


def as_text(value: object) -> str:
    """A value as it is put out."""
    return value if isinstance(value, Written) else str(value)


def joined(parts: Iterable[object]) -> Written:
    """The text of values, one after the other."""
    marked = "".join(map(shown, parts))
    length = len(marked) - 2 * marked.count(OPEN)
    if length > MAX_CHARACTERS:
        raise TemplateRuntimeError(
            f"It makes a text of {length} characters; the limit is {MAX_CHARACTERS}."
        )
    return _of(marked)


def _of(marked: str) -> Written:
    """A text as ``shown`` gives it."""
    return Written(marked.replace(OPEN, "").replace(CLOSE, ""), marked)


def origins(text: str) -> tuple[str, bytes]:
    """A text as ``shown`` gives it: plain, and for each character 1 where it is from outside."""
    parts = _OWN.split(text)
    outside = (bytes([index % 2 == 0]) * len(part) for index, part in enumerate(parts))
    return "".join(parts), b"".join(outside)


class _Generator(CodeGenerator):
    """Compiles constants to ``Written`` and puts texts out with their origin."""

    def visit_Const(self, node: nodes.Const, frame: Frame) -> None:  # noqa: N802
        if isinstance(node.value, str):
            self.write(f"environment.own({node.value!r})")
        else:
            super().visit_Const(node, frame)

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:  # noqa: N802
        self.write("environment.concat((")
        for part in node.nodes:
            self.visit(part, frame)
            self.write(", ")
        self.write("))")

    def _output_const_repr(self, group: Iterable[Any]) -> str:
        return f"environment.own({''.join(group)!r})"

    def _output_child_pre(self, node: nodes.Expr, frame: Frame, finalize: Any) -> None:
        self.write("environment.as_text(")


class WrittenEnvironment(ImmutableSandboxedEnvironment):
    """Renders to a ``Written``."""

    code_generator_class = _Generator
    own = staticmethod(own)
    as_text = staticmethod(as_text)
    concat = staticmethod(joined)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """Keep what is formatted of nothing but the template's own texts its own."""
        formatted = super().wrap_str_format(value)
        if formatted is None or not _is_own(value.__self__):
            return formatted

        def format_(*args: Any, **named: Any) -> str:
            text = formatted(*args, **named)
            return own(text) if all(map(_is_own, (*args, *named.values()))) else text

        return format_


def _is_own(value: object) -> bool:
    return isinstance(value, Written) and not any(origins(value._shown)[1])
