"""Another model file in the place of one that the prompt process has open."""

import gc
import os
from pathlib import Path

import llama_cpp
import pytest

from inference.engine.backend import GrammarError, ModelLoadError
from inference.prompts import worker
from inference.prompts.grammar_check import check_grammar
from inference.prompts.vocabulary import Vocabulary
from tests.models_registry import gguf_samples

OTHER_TOKENS = ["<s>", "</s>", "b", "a", "ab", "x"]


def tokens(path: Path, text: str) -> list[int]:
    """What the prompt process makes of a text, in this process."""
    return worker.tokenize_text(str(path), text, add_special=False, parse_control=False)


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


def test_file_that_stays_is_opened_once(path: Path) -> None:
    assert worker.open_vocabulary(str(path)) is worker.open_vocabulary(str(path))


def test_file_that_is_gone_is_still_known(path: Path) -> None:
    tokens(path, "a")
    path.unlink()
    assert tokens(path, "a") == [2]


def test_file_that_never_was_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match=r"nothing\.gguf does not exist"):
        tokens(tmp_path / "nothing.gguf", "a")


def test_vocabulary_that_nobody_uses_is_freed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    freed: list[object] = []
    real = llama_cpp.llama_model_free

    def free(model: object) -> None:
        freed.append(model)
        real(model)

    monkeypatch.setattr(llama_cpp, "llama_model_free", free)
    vocabulary = Vocabulary(path)
    assert vocabulary.grammar_compiler
    del vocabulary
    gc.collect()
    assert len(freed) == 1
