"""Track which characters of a rendered conversation the template wrote.

``<|im_start|>`` in a message must not count as the template's. So each constant of a template is a
``TrackedText``, which keeps its origin when texts are joined. Results of any other operation count
as untrusted, which is safe.
"""

import re
from collections.abc import Callable, Iterable
from typing import Any, Self

from jinja2 import TemplateRuntimeError, nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.sandbox import ImmutableSandboxedEnvironment

# Unicode noncharacters: valid in memory, never in interchanged text.
OPEN, CLOSE, END = "\ufdd0", "\ufdd1", "\ufdd2"
RESERVED = (OPEN, CLOSE, END)
MAX_CHARACTERS = 4_000_000
_CHARACTER = re.compile(f"[^{OPEN}{CLOSE}]")
_TRUSTED = re.compile(f"{OPEN}([^{CLOSE}]*){CLOSE}")


class TrackedText(str):
    """A text that knows which of its characters the template wrote."""

    __slots__ = ("_delimited",)
    _delimited: str

    def __new__(cls, text: str, delimited_text: str | None = None) -> Self:
        """``delimited_text``: from ``delimited``; None if all of ``text`` is untrusted."""
        self = super().__new__(cls, text)
        self._delimited = delimited(text) if delimited_text is None else delimited_text
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
        return _tracked(_CHARACTER.sub("", self._delimited, count)) if count else self

    def rstrip(self, chars: str | None = None) -> str:
        count = len(self) - len(super().rstrip(chars))
        return _tracked(_CHARACTER.sub("", self._delimited[::-1], count)[::-1]) if count else self


def trusted(text: str) -> TrackedText:
    """A text that the template wrote."""
    return TrackedText(text, f"{OPEN}{text}{CLOSE}" if text else "")


def delimited(value: object) -> str:
    """A value as text, with the template's parts between OPEN and CLOSE.

    Untrusted text may contain neither; an escape sequence in it may have made one.
    """
    if isinstance(value, TrackedText):
        return value._delimited
    text = str(value)
    return text.replace(OPEN, "").replace(CLOSE, "") if OPEN in text or CLOSE in text else text


def as_text(value: object) -> str:
    return value if isinstance(value, TrackedText) else str(value)


def joined(parts: Iterable[object]) -> TrackedText:
    text = "".join(map(delimited, parts))
    length = len(text) - 2 * text.count(OPEN)
    if length > MAX_CHARACTERS:
        raise TemplateRuntimeError(
            f"It makes a text of {length} characters; the limit is {MAX_CHARACTERS}."
        )
    return _tracked(text)


def _tracked(delimited_text: str) -> TrackedText:
    return TrackedText(delimited_text.replace(OPEN, "").replace(CLOSE, ""), delimited_text)


def origins(delimited_text: str) -> tuple[str, bytes]:
    """The plain text, and for each character 1 if it is untrusted, else 0."""
    parts = _TRUSTED.split(delimited_text)
    untrusted = (bytes([index % 2 == 0]) * len(part) for index, part in enumerate(parts))
    return "".join(parts), b"".join(untrusted)


class _Generator(CodeGenerator):
    """Compiles constants to ``TrackedText`` and keeps the origin of output."""

    def visit_Const(self, node: nodes.Const, frame: Frame) -> None:  # noqa: N802
        if isinstance(node.value, str):
            self.write(f"environment.trusted({node.value!r})")
        else:
            super().visit_Const(node, frame)

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:  # noqa: N802
        self.write("environment.concat((")
        for part in node.nodes:
            self.visit(part, frame)
            self.write(", ")
        self.write("))")

    def _output_const_repr(self, group: Iterable[Any]) -> str:
        return f"environment.trusted({''.join(group)!r})"

    def _output_child_pre(self, node: nodes.Expr, frame: Frame, finalize: Any) -> None:
        self.write("environment.as_text(")


class TrackingEnvironment(ImmutableSandboxedEnvironment):
    code_generator_class = _Generator
    trusted = staticmethod(trusted)
    as_text = staticmethod(as_text)
    concat = staticmethod(joined)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """Trust formatted text only if the format and all its arguments are trusted."""
        formatted = super().wrap_str_format(value)
        if formatted is None or not _is_trusted(value.__self__):
            return formatted

        def format_(*args: Any, **named: Any) -> str:
            text = formatted(*args, **named)
            return trusted(text) if all(map(_is_trusted, (*args, *named.values()))) else text

        return format_


def _is_trusted(value: object) -> bool:
    return isinstance(value, TrackedText) and not any(origins(value._delimited)[1])
