"""Whether a chat template is one: read, never run. What runs it is ``inference.prompts``."""

from functools import lru_cache
from typing import Final

import jinja2
from jinja2 import meta, nodes
from jinja2.ext import Extension, LoopControlExtension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment


class GenerationExtension(Extension):
    """``{% generation %}`` marks the assistant's words for training; here it is as if absent."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """The statements between its tags."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


TEMPLATE_EXTENSIONS: Final = (LoopControlExtension, GenerationExtension)
"""What templates may use beyond Jinja's own statements."""
TEMPLATE_FILTERS: Final = ("from_json", "tojson")
"""What they may use beyond, or in place of, Jinja's own filters."""


def fault_of_template(template: str) -> str:
    """What is wrong with the form of a template; "" where nothing is.

    It is parsed and not compiled: a compiler computes constants, and a template out of a file may
    have some of gigabytes.
    """
    environment = ImmutableSandboxedEnvironment(extensions=TEMPLATE_EXTENSIONS)
    try:
        return _unknown_name(environment, environment.parse(template))
    except jinja2.TemplateSyntaxError as error:
        return f"Line {error.lineno}: {error.message}"
    except RecursionError:
        return "It is nested too deeply."
    except ValueError as error:  # of Python's own reading of a number
        return f"It has a number that cannot be read: {error}."


@lru_cache(maxsize=64)
def texts_of_template(template: str) -> tuple[str, ...]:
    """The texts that a template may write out or compare with; none of one that is no template."""
    environment = ImmutableSandboxedEnvironment(extensions=TEMPLATE_EXTENSIONS)
    try:
        tree = environment.parse(template)
    except (jinja2.TemplateSyntaxError, RecursionError, ValueError):
        return ()
    constants = (node.value for node in tree.find_all(nodes.Const))
    texts = [value for value in constants if isinstance(value, str)]
    return (*texts, *(node.data for node in tree.find_all(nodes.TemplateData)))


@lru_cache(maxsize=64)
def variables_of_template(template: str) -> frozenset[str]:
    """Names of the variables that a template reads; none of one that is no template."""
    environment = ImmutableSandboxedEnvironment(extensions=TEMPLATE_EXTENSIONS)
    try:
        return frozenset(meta.find_undeclared_variables(environment.parse(template)))
    except (jinja2.TemplateError, RecursionError, ValueError):
        return frozenset()


def _unknown_name(environment: jinja2.Environment, tree: nodes.Template) -> str:
    filters = {*environment.filters, *TEMPLATE_FILTERS}
    known = {nodes.Filter: filters, nodes.Test: environment.tests}
    for kind, names in known.items():
        for node in tree.find_all(kind):
            if node.name not in names:
                return f"Line {node.lineno}: there is no {kind.__name__.lower()} {node.name!r}."
    return ""
