"""Whether a chat template is one."""

import pytest

from models_registry.rules.chat_templates import fault_of_template


@pytest.mark.parametrize(
    "template",
    [
        "",
        "plain",
        "{% for m in messages %}{{ m.content | trim | tojson }}{% break %}{% endfor %}",
        "{% generation %}{{ messages }}{% endgeneration %}",
        "{{ raise_exception('x') if messages is not defined }}",
        # To compute this would take all memory.
        "{{ 'a' * 100000000000 }}",
    ],
)
def test_templates_that_can_be_read_have_no_fault(template: str) -> None:
    assert fault_of_template(template) == ""


@pytest.mark.parametrize(
    ("template", "fault"),
    [
        ("{{", "Line 1: unexpected 'end of template'"),
        ("a\n{% if x %}", "Line 2"),
        ("{{ x | shout }}", "Line 1: there is no filter 'shout'."),
        ("{{ x is shouted }}", "Line 1: there is no test 'shouted'."),
        ("{% genesis %}", "unknown tag 'genesis'"),
        ("{{ " + "(" * 100_000 + " }}", "nested too deeply"),
        ("{{ x" + ".y" * 100_000 + " }}", "nested too deeply"),
        ("{{ " + "9" * 5000 + " }}", "a number that cannot be read"),
    ],
)
def test_templates_that_cannot_be_read_say_why(template: str, fault: str) -> None:
    assert fault in fault_of_template(template)
