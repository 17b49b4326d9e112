"""Untrusted text never becomes a token that the template uses as a mark."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2.sandbox import ImmutableSandboxedEnvironment

from inference.prompts import prompt_process
from inference.prompts.chat_template import render
from inference.prompts.marks import is_written, marks_of, split_marks
from inference.prompts.vocabulary import Vocabulary
from tests.inference.tiny_vocabularies import HARMLESS, KINDS, MARKS, NORMAL, write_vocabulary

# Puts texts from outside next to each other and to its own marks, and looks into them.
TEMPLATE = """\
{{ bos_token }}{% for m in messages %}\
{{ '<|' ~ ('start' if m.role == 'user' else 'channel') ~ '|>' }}{{ m.role }}<|message|>\
{{ m.name }}{{ m.content }}|{{ '<|' + m.name + '|>' }}<{{ m.content | trim }}\
<think>{{ m.content.split('<think>')[-1] + '<|end|>' }}{% set a = '<a>' %}{{ a + m.name }}\
{{ {m.name: [m.content]} | tojson }}{{ tools[0].name }}\
{% endfor %}{{ extra }}{% if add_generation_prompt %}<start_of_turn>[INST]{% endif %}"""
OWN = ["<|start|>", "<|message|>", "<think>", "<|end|>", "<a>"]
FRAGMENTS = sorted(
    {mark[:end] for mark in MARKS for end in range(1, len(mark) + 1)}
    | {mark[start:] for mark in MARKS for start in range(len(mark))}
    | {"</s>", "<s>", "<unk>", " ", "    ", "x", "é", "<b>", "start", "user", "message|>"}
)
OUTSIDE = st.lists(st.sampled_from(FRAGMENTS), max_size=6).map("".join)


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    value: str = request.param
    return value


@pytest.fixture(scope="module")
def path(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_vocabulary(tmp_path_factory.mktemp("vocabularies") / "tiny.gguf", kind)


@pytest.fixture(scope="module")
def vocabulary(path: Path) -> Vocabulary:
    return Vocabulary(path)


def marked(vocabulary: Vocabulary, ids: list[int]) -> list[str]:
    texts = [vocabulary.detokenize([token]) for token in ids]
    return [text for text in texts if text in {*MARKS, "<s>", "</s>"}]


def folded(kind: str, text: str) -> str:
    """A text without what a tokeniser of this kind does not keep."""
    if kind in ("wpm", "ugm"):
        text = "".join(text.lower().split()).replace("<unk>", "e").replace("é", "e")
        return re.sub("e+", "e", text)
    return text.replace(" ", "") if kind == "spm-blank" else text


@settings(max_examples=200, deadline=None)
@given(text=OUTSIDE)
def test_marks_do_not_arise_from_a_text(kind: str, vocabulary: Vocabulary, text: str):
    pieces = split_marks(text, vocabulary.marks(TEMPLATE), b"\1" * len(text))
    ids = vocabulary.tokenize_pieces(pieces, add_special=False, parse_control=False)
    assert marked(vocabulary, ids) == []
    assert "".join(pieces) == text
    assert folded(kind, vocabulary.detokenize(ids)) == folded(kind, text)


@settings(max_examples=200, deadline=None)
@given(turns=st.lists(st.tuples(OUTSIDE, OUTSIDE), min_size=1, max_size=2), extra=OUTSIDE)
def test_marks_in_a_conversation_are_the_templates(
    kind: str, vocabulary: Vocabulary, turns: list[tuple[str, str]], extra: str
):
    messages = [{"role": "user", "name": name, "content": content} for name, content in turns]
    tools = [{"name": extra}]
    pieces = render(
        TEMPLATE,
        messages,
        vocabulary.marks(TEMPLATE),
        tools=tools,
        variables={"extra": extra},
        bos_token="<s>",
    )
    environment = ImmutableSandboxedEnvironment()
    environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
    assert "".join(pieces) == environment.from_string(TEMPLATE).render(
        messages=messages, tools=tools, extra=extra, bos_token="<s>", add_generation_prompt=True
    )
    ids = vocabulary.tokenize_pieces(pieces, add_special=False, parse_control=True)
    assert marked(vocabulary, ids) == ["<s>", *OWN * len(turns), "<start_of_turn>", "[INST]"]
    if kind in ("bpe", "spm"):
        assert vocabulary.detokenize(ids) == "".join(pieces)


def test_marks_of_the_template_and_honest_text_are_one_piece(vocabulary: Vocabulary):
    message = {"role": "user", "name": "n", "content": "c <b>    d <|"}
    marks = vocabulary.marks(TEMPLATE)
    assert len(render(TEMPLATE, [message], marks, tools=[{"name": "t"}])) == 1


@pytest.mark.parametrize(("role", "pieces"), [("user", 1), ("a|><|user", 3)])
def test_marks_may_be_assembled_from_a_known_role(role: str, pieces: int):
    message = {"role": role, "content": ""}
    template = "{{ '<|' + messages[0].role + '|>' }}"
    assert len(render(template, [message], ("<|user|>", "<|a|>"))) == pieces


@pytest.mark.parametrize(
    ("template", "content"),
    [
        ("{{ (messages[0].content | from_json)[0] }}", '["\\ufdd0<a>\\ufdd1"]'),
        ("{{ '{}'.format((messages[0].content | from_json)[0]) }}", '["\\ufdd0<a>\\ufdd1"]'),
        ("{{ messages[0].content | striptags }}", "&#xfdd0;&lt;a&gt;&#xfdd1;"),
    ],
)
def test_marks_are_not_forged_by_escapes(template: str, content: str):
    message = {"role": "user", "content": content}
    assert render(template, [message], ("<a>",)) == ["<", "a>"]
    assert render("{% set x %}" + template + "{% endset %}{{ x }}", [message], ("<a>",)) == [
        "<",
        "a>",
    ]


@pytest.mark.parametrize("harmless", HARMLESS)
def test_marks_are_no_tokens_that_are_harmless(vocabulary: Vocabulary, harmless: str):
    (token,) = vocabulary.tokenize(harmless, add_special=False, parse_control=False)[-1:]
    text = f"x{harmless}y"
    pieces = split_marks(text, vocabulary.marks(f"    {TEMPLATE}"), b"\1" * len(text))
    assert pieces == [text]
    ids = vocabulary.tokenize_pieces(pieces, add_special=False, parse_control=False)
    assert token in ids


@pytest.mark.parametrize(
    ("control", "others", "written", "marks"),
    [
        (["<s>", "▁<PRE>", "▁", "|"], [], [], ["<PRE>", "<s>"]),
        ([], ["<|start|>", "<channel|>", "<\uff5cUser\uff5c>"], [], 3),
        ([], ["<think>", "</think>", "<b>"], ["\n<think>\n", "x"], ["<think>"]),
        ([], ["    ", "1", "user", "|>", "\n\n", "--"], ["    1 user |> \n\n --"], []),
        ([], ["[x]", "]~!b["], ["[x]]~!b["], 2),
    ],
)
def test_marks_of_a_vocabulary_and_a_template(
    control: list[str], others: list[str], written: list[str], marks: list[str] | int
):
    found = marks_of(tuple(control), tuple(others), tuple(written))
    assert (len(found) if isinstance(marks, int) else list(found)) == marks


def test_marks_among_plain_tokens_are_known(tmp_path: Path):
    path = write_vocabulary(tmp_path / "tiny.gguf", "spm", dict.fromkeys(MARKS, NORMAL))
    vocabulary = Vocabulary(path)
    text = "<|channel><channel|>"
    assert marked(vocabulary, vocabulary.tokenize(text, add_special=False, parse_control=False))
    pieces = split_marks(text, vocabulary.marks(""), b"\1" * len(text))
    ids = vocabulary.tokenize_pieces(pieces, add_special=False, parse_control=False)
    assert marked(vocabulary, ids) == []


def test_marks_that_were_cut_get_no_blanks(kind: str, vocabulary: Vocabulary):
    text = "x<|start|>y [INST]z"
    pieces = split_marks(text, vocabulary.marks(""), b"\1" * len(text))
    ids = vocabulary.tokenize_pieces(pieces, add_special=False, parse_control=False)
    if kind != "wpm":
        assert vocabulary.detokenize(ids).strip() == text


def test_marks_are_found_fast_in_a_long_text():
    marks = tuple(f"<unused{number}>" for number in range(7000))
    text = "<" * 1_000_000
    assert split_marks(text, marks, b"\1" * len(text)) == [text]


def test_marks_that_were_cut_leave_special_tokens_at_the_ends(
    kind: str, path: Path, vocabulary: Vocabulary
):
    ids = prompt_process.tokenize_text(str(path), "a<|start|>b", True, "none")
    assert ids[0] == 1
    assert (ids[-1] == 2) == (kind in ("wpm", "ugm"))
    assert [ids.count(1), ids.count(2)] == [1, int(kind in ("wpm", "ugm"))]


def test_prompt_that_begins_with_bos_gets_no_second_one(kind: str, path: Path):
    with_bos = prompt_process.tokenize_text(str(path), "<s>a<|start|>", True, "all")
    assert with_bos.count(1) == 1
    assert with_bos[0] == 1
    without = prompt_process.tokenize_text(str(path), "a<|start|>", True, "all")
    assert with_bos == (without[:-1] if kind in ("wpm", "ugm") else without)
    # Where it is no template, it is a text like any other.
    assert prompt_process.tokenize_text(str(path), "<s>a", True, "none").count(1) == 1


def test_raw_prompt_has_marks_but_those_of_the_template(path: Path, vocabulary: Vocabulary):
    template = "{{ '<|' + message.role + '|>' }}<|start|><s>"

    def marks_in(marks: Any) -> list[str]:
        text = "<s>a<|start|>b<|channel|>c<s>"
        return marked(
            vocabulary, prompt_process.tokenize_text(str(path), text, False, marks, template)
        )

    assert marks_in("all") == ["<s>", "<|start|>", "<|channel|>", "<s>"]
    assert marks_in("other") == ["<s>", "<|channel|>"]
    assert marks_in("none") == []


@pytest.mark.parametrize(
    ("mark", "template", "written"),
    [
        ("<|im_start|>", "<|im_start|>", True),
        ("<|user|>", "'<|' + message.role + '|>'", True),
        ("<|fim_prefix|>", "<|im_start|>", False),
    ],
)
def test_marks_of_a_template_are_written_or_put_together(mark: str, template: str, written: bool):
    assert is_written(mark, template) == written


@pytest.mark.parametrize(
    ("template", "begins"),
    [("{{ bos_token }}{{ messages[0].content }}", 1), ("{{ messages[0].name }}", 2)],
)
def test_chat_gets_one_bos_and_a_typed_one_is_none(
    path: Path, vocabulary: Vocabulary, template: str, begins: int
):
    message = {"role": "user", "content": "x", "name": "<s>x"}
    ids = prompt_process.tokenize_chat(str(path), template, [message], {})
    assert ids[0] == 1
    assert ids.count(1) == 1
    assert vocabulary.detokenize(ids).replace(" ", "").startswith("<s>" * begins + "x")
