"""Quantising a registered version, with the real SmolLM2 and the real llama.cpp."""

import dataclasses
import os
import signal
from collections import namedtuple
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from inference import quantisation
from inference.engine.backend import Span
from inference.engine.config import EngineConfig
from inference.engine.llama import quantize
from inference.engine.llama.generation_backend import LlamaBackend
from inference.engine.llama.runtime import LlamaOptions
from inference.prompts.vocabulary import Vocabulary
from inference.quantisation import QUANTISATIONS, QuantisationError, quality_warning, quantise
from models_registry.errors import RegistryError
from models_registry.files.inspection import inspect_file
from models_registry.models import Model, ModelVersion
from models_registry.sources import checksum, ignore_progress, storage
from models_registry.sources.errors import DiskFullError

pytestmark = pytest.mark.django_db
Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def models_dir(tmp_path: Path, smollm2_path: Path) -> Path:
    """A models directory with SmolLM2 in it."""
    (tmp_path / smollm2_path.name).symlink_to(smollm2_path)
    return tmp_path


@pytest.fixture
def source(models_dir: Path, smollm2_path: Path) -> ModelVersion:
    """SmolLM2, registered with options of its own."""
    model = Model.objects.create(slug="smol", name="SmolLM2")
    version = ModelVersion(
        model=model,
        label="q4_1",
        is_default=True,
        file_name=smollm2_path.name,
        kv_cells=512,
        cache_type_k="q8_0",
        default_sampling={"temperature": 0.2},
        chat_template="a template of our own",
    )
    inspect_file(version, smollm2_path)
    return version


def _quantise(source: ModelVersion, models_dir: Path, type_: str, **options: Any) -> ModelVersion:
    on_tensor = options.pop("on_tensor", lambda *_: None)
    return quantise(source, type_, models_dir=models_dir, threads=2, on_tensor=on_tensor, **options)


def _answer(path: Path, question: str) -> str:
    """The first tokens of SmolLM2's greedy answer, by the real backend."""
    backend = LlamaBackend(path, EngineConfig(256, 1, step_tokens=64), LlamaOptions(threads=2))
    vocabulary = Vocabulary(path)
    chat = f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"
    tokens = vocabulary.tokenize(chat, add_special=True, parse_control=True)
    answer: list[int] = []
    try:
        while len(answer) < 8:
            start = len(tokens) - 1 + len(answer) if answer else 0
            backend.decode([Span(0, start, answer[-1:] or tokens, outputs=1)])
            answer.append(int(backend.logits(0).argmax()))
    finally:
        backend.close()
    return vocabulary.detokenize(answer)


def _assert_as_before(models_dir: Path, source: ModelVersion) -> None:
    """No row was added, and no file but locks."""
    assert list(ModelVersion.objects.all()) == [source]
    files = {path.name for path in models_dir.iterdir() if path.suffix != ".lock"}
    assert files == {source.file_name}


def test_quantised_version_is_a_copy_with_another_file(
    source: ModelVersion, models_dir: Path
) -> None:
    seen: list[tuple[int, int]] = []
    made = _quantise(source, models_dir, "q4_0", on_tensor=lambda *step: seen.append(step))

    made.refresh_from_db()
    assert (made.key, made.file_name) == ("smol@q4_0", "SmolLM2-135M-Instruct.Q4_0.gguf")
    assert (made.quantisation, made.file_state, made.is_default) == ("Q4_0", "ready", False)
    for name in ("kv_cells", "cache_type_k", "default_sampling", "chat_template"):
        assert getattr(made, name) == getattr(source, name)
    assert made.vocabulary_size == source.vocabulary_size
    path = models_dir / made.file_name
    assert made.size_bytes == path.stat().st_size < (source.size_bytes or 0)
    assert made.sha256 == checksum.sha256_of(path, ignore_progress)
    assert seen == [(number, 272) for number in range(1, 273)]
    assert not list(models_dir.glob("*.part"))
    source.refresh_from_db()
    assert (source.is_default, source.quantisation) == (True, "Q4_1")
    assert "Paris" in _answer(path, "What is the capital of France?")


def test_command_makes_the_new_version_the_default(
    source: ModelVersion, models_dir: Path, settings: Any
) -> None:
    out, err = StringIO(), StringIO()
    settings.INFERENCE = _with_models_dir(settings.INFERENCE, models_dir)
    call_command("quantize", "smol", "Q8_0", "--label", "big", "--default", stdout=out, stderr=err)
    made = ModelVersion.objects.get(label="big")
    assert (made.file_name, made.quantisation) == ("SmolLM2-135M-Instruct.big.gguf", "Q8_0")
    assert made.model.versions.get(is_default=True) == made
    assert "smol@big is registered (144.8 MB, now the default version)" in out.getvalue()
    assert "smol@q4_1 is quantised already (Q4_1)" in err.getvalue()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("nobody", "Q4_0"), "nobody is not registered"),
        (("smol@q4_1", "Q9"), "Choose one of Q2_K, .* Q4_0, .* F32"),
        (("smol", "Q4_0", "--label", "q4_1"), "smol@q4_1 is registered already"),
        (("smol", "Q4_0", "--label", "../x"), "'../x' is not a valid label"),
    ],
)
def test_command_says_what_is_wrong(
    source: ModelVersion,
    models_dir: Path,
    settings: Any,
    arguments: tuple[str, ...],
    reason: str,
) -> None:
    settings.INFERENCE = _with_models_dir(settings.INFERENCE, models_dir)
    with pytest.raises(CommandError, match=reason):
        call_command("quantize", *arguments, stderr=StringIO())
    _assert_as_before(models_dir, source)


def test_source_without_its_file_says_how_to_fetch_it(
    source: ModelVersion, models_dir: Path
) -> None:
    (models_dir / source.file_name).unlink()
    with pytest.raises(RegistryError, match="fetch_model smol@q4_1"):
        _quantise(source, models_dir, "Q4_0")


def test_file_that_is_in_the_way_is_kept(source: ModelVersion, models_dir: Path) -> None:
    in_the_way = models_dir / "SmolLM2-135M-Instruct.Q4_0.gguf"
    in_the_way.write_text("mine")
    with pytest.raises(RegistryError, match="exists already"):
        _quantise(source, models_dir, "Q4_0")
    assert in_the_way.read_text() == "mine"


def test_small_disk_is_noticed_before_anything_is_written(
    source: ModelVersion, models_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage.shutil, "disk_usage", lambda _: Usage(10**9, 10**9, 91_000_000))
    seen: list[Any] = []
    with pytest.raises(DiskFullError, match=r"91\.0 MB free, but .* needs 91\.7 MB"):
        _quantise(source, models_dir, "Q4_0", on_tensor=lambda *step: seen.append(step))
    assert seen == []
    _assert_as_before(models_dir, source)


def test_interruption_leaves_nothing(source: ModelVersion, models_dir: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        if done == 50:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _quantise(source, models_dir, "Q4_0", on_tensor=interrupt)
    _assert_as_before(models_dir, source)


def test_death_of_the_process_is_told(
    source: ModelVersion, models_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Any] = []
    real = quantisation.subprocess.Popen

    def start(*arguments: Any, **options: Any) -> Any:
        started.append(real(*arguments, **options))
        return started[-1]

    monkeypatch.setattr(quantisation.subprocess, "Popen", start)

    def kill(done: int, total: int) -> None:
        os.kill(started[0].pid, signal.SIGKILL)

    with pytest.raises(QuantisationError, match="ended by signal 9"):
        _quantise(source, models_dir, "Q4_0", on_tensor=kill)
    _assert_as_before(models_dir, source)


def test_damaged_source_is_refused_with_the_reason(source: ModelVersion, models_dir: Path) -> None:
    path = models_dir / source.file_name
    data = path.read_bytes()[:50_000_000]
    path.unlink()
    path.write_bytes(data)
    with pytest.raises(Exception, match="truncated"):
        _quantise(source, models_dir, "Q4_0")
    _assert_as_before(models_dir, source)


def test_label_that_was_taken_meanwhile_leaves_no_file(
    source: ModelVersion, models_dir: Path
) -> None:
    def take(done: int, total: int) -> None:
        if done == 1:
            source.model.versions.create(label="q4_0", file_name="other.gguf")

    with pytest.raises(RegistryError, match="was registered by somebody else"):
        _quantise(source, models_dir, "Q4_0", on_tensor=take)
    assert not (models_dir / "SmolLM2-135M-Instruct.Q4_0.gguf").exists()


@pytest.mark.parametrize(
    ("quantisation_", "warns"), [("F16", False), ("BF16", False), ("Q8_0", True)]
)
def test_only_what_is_quantised_already_is_warned_of(quantisation_: str, warns: bool) -> None:
    version = ModelVersion(model=Model(slug="m"), label="v", quantisation=quantisation_)
    assert bool(quality_warning(version)) is warns


def test_every_quantisation_has_its_number_in_llama_cpp() -> None:
    assert len({quantize.file_type(name) for name in QUANTISATIONS}) == len(QUANTISATIONS)


def _with_models_dir(settings: Any, models_dir: Path) -> Any:
    return dataclasses.replace(settings, models_dir=models_dir)
