"""Another model file in the place of one that the prompt process has open."""

import gc
import os
from pathlib import Path

import llama_cpp
import pytest

from inference.engine.backend import GrammarError, ModelLoadError
from inference.prompts import prompt_process
from inference.prompts.grammar_check import check_grammar
from inference.prompts.vocabulary import Vocabulary
from tests.models_registry import gguf_samples

OTHER_TOKENS = ["<s>", "</s>", "b", "a", "ab", "x"]


def tokens(path: Path, text: str) -> list[int]:
    return prompt_process.tokenize_text(str(path), text, add_special=False, marks="none")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return gguf_samples.write_llama(tmp_path / "m.gguf")


def replace(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a file of the same size there whose vocabulary has another order."""
    before = path.stat()
    monkeypatch.setattr(gguf_samples, "TOKENS", OTHER_TOKENS)
    new = gguf_samples.write_llama(path.with_name("new.gguf"))
    os.utime(new, ns=(before.st_atime_ns, before.st_mtime_ns))
    os.replace(new, path)


def test_replaced_file_has_its_own_vocabulary(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert tokens(path, "a") == [2]
    replace(path, monkeypatch)
    assert tokens(path, "a") == [3]


def test_replaced_file_has_its_own_grammars(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(GrammarError):
        check_grammar(str(path), 'start: "x"')
    replace(path, monkeypatch)
    check_grammar(str(path), 'start: "x"')


def test_file_that_does_not_change_is_opened_once(path: Path) -> None:
    assert prompt_process.open_vocabulary(str(path)) is prompt_process.open_vocabulary(str(path))


def test_file_that_was_deleted_is_still_served(path: Path) -> None:
    tokens(path, "a")
    path.unlink()
    assert tokens(path, "a") == [2]


def test_file_that_never_was_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match=r"nothing\.gguf does not exist"):
        tokens(tmp_path / "nothing.gguf", "a")


@pytest.fixture
def freed(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The models that llama.cpp was told to free."""
    found: list[object] = []
    real = llama_cpp.llama_model_free

    def free(model: object) -> None:
        found.append(model)
        real(model)

    monkeypatch.setattr(prompt_process, "_opened", {})  # other tests have some open
    gc.collect()
    monkeypatch.setattr(llama_cpp, "llama_model_free", free)
    return found


def test_vocabulary_of_a_replaced_file_is_freed(
    path: Path, monkeypatch: pytest.MonkeyPatch, freed: list[object]
) -> None:
    tokens(path, "a")
    replace(path, monkeypatch)
    tokens(path, "a")
    gc.collect()
    assert len(freed) == 1


def test_least_recently_used_vocabulary_is_freed(
    path: Path, monkeypatch: pytest.MonkeyPatch, freed: list[object]
) -> None:
    monkeypatch.setattr(prompt_process, "OPEN_VOCABULARIES", 2)
    first, second, third = (
        gguf_samples.write_llama(path.with_name(f"{number}.gguf")) for number in range(3)
    )
    for file in (first, second, first, third):
        tokens(file, "a")
    gc.collect()
    assert len(freed) == 1
    kept = prompt_process.open_vocabulary(str(first))
    assert kept is prompt_process.open_vocabulary(str(first))
    assert list(prompt_process._opened) == [str(third), str(first)]


def test_unused_vocabulary_is_freed(path: Path, freed: list[object]) -> None:
    vocabulary = Vocabulary(path)
    assert vocabulary.grammar_compiler
    del vocabulary
    gc.collect()
    assert len(freed) == 1
