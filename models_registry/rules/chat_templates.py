"""Checks of chat templates by parsing alone; ``inference.prompts`` renders them."""

from functools import lru_cache
from typing import Final

import jinja2
from jinja2 import meta, nodes
from jinja2.ext import Extension, LoopControlExtension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment


class GenerationExtension(Extension):
    """Ignores ``{% generation %}``, which marks the assistant's text for training."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


TEMPLATE_EXTENSIONS: Final = (LoopControlExtension, GenerationExtension)
TEMPLATE_FILTERS: Final = ("from_json", "tojson")
_PARSE_ERRORS: Final = (jinja2.TemplateError, RecursionError, ValueError)


def fault_of_template(template: str) -> str:
    """The first syntax error or unknown filter or test of a template; "" if it has none.

    It is parsed and not compiled: a compiler computes constants, and a template from a file may
    have constants of gigabytes.
    """
    environment = _environment()
    try:
        return _unknown_name(environment, environment.parse(template))
    except jinja2.TemplateSyntaxError as error:
        return f"Line {error.lineno}: {error.message}"
    except RecursionError:
        return "It is nested too deeply."
    except ValueError as error:
        return f"It has a number that cannot be read: {error}."


@lru_cache(maxsize=64)
def texts_of_template(template: str) -> tuple[str, ...]:
    """The texts that a template may write out or compare with; () for an invalid template."""
    try:
        tree = _environment().parse(template)
    except _PARSE_ERRORS:
        return ()
    constants = (node.value for node in tree.find_all(nodes.Const))
    texts = [value for value in constants if isinstance(value, str)]
    return (*texts, *(node.data for node in tree.find_all(nodes.TemplateData)))


@lru_cache(maxsize=64)
def variables_of_template(template: str) -> frozenset[str]:
    """Names of the variables that a template reads; empty for an invalid template."""
    try:
        return frozenset(meta.find_undeclared_variables(_environment().parse(template)))
    except _PARSE_ERRORS:
        return frozenset()


def _environment() -> jinja2.Environment:
    return ImmutableSandboxedEnvironment(extensions=TEMPLATE_EXTENSIONS)


def _unknown_name(environment: jinja2.Environment, tree: nodes.Template) -> str:
    filters = {*environment.filters, *TEMPLATE_FILTERS}
    known = {nodes.Filter: filters, nodes.Test: environment.tests}
    for kind, names in known.items():
        for node in tree.find_all(kind):
            if node.name not in names:
                return f"Line {node.lineno}: there is no {kind.__name__.lower()} {node.name!r}."
    return ""
