"""Functions of the prompt process: rendering and tokenising under limits of time and memory.

Templates come from model files and texts from anyone, so both may be hostile: endless loops, texts
of gigabytes, quadratic time in the tokeniser. They can only end this process, which is restarted.
"""

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import resource
import signal
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from inference.prompts.chat_template import RenderOptions, TemplateFailedError, render
from inference.prompts.marks import Marks, is_written, split_marks

RENDER_SECONDS = 2.0
HARD_RENDER_SECONDS = 3.0
HARD_TOKENIZE_SECONDS = 10.0
MEMORY_BYTES = 2 << 30
OPEN_VOCABULARIES = 8
Identity = tuple[int, ...]
_last_seen: dict[str, Identity] = {}
# By path, least recently used first.
_opened: dict[str, tuple[Identity, Any]] = {}


def initialise() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, _on_alarm)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    limit_memory()
    # Not PR_SET_PDEATHSIG: it watches the thread that started this process, not the parent process.
    threading.Thread(target=_end_with_parent, daemon=True).start()


def limit_memory() -> None:
    """Make allocations fail beyond MEMORY_BYTES, or the system's limit if that is lower."""
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    soft = MEMORY_BYTES if hard == resource.RLIM_INFINITY else min(MEMORY_BYTES, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def tokenize_chat(
    path: str, template: str, messages: Sequence[dict[str, Any]], options: RenderOptions
) -> list[int]:
    """Render messages and tokenise them. Raises ``ModelLoadError`` or ``TemplateFailedError``."""
    vocabulary = open_vocabulary(path)
    bos, eos = vocabulary.bos_token, vocabulary.eos_token
    marks = vocabulary.marks(template)
    try:
        with hard_limit(HARD_RENDER_SECONDS), _soft_limit():
            pieces = render(template, messages, marks, bos_token=bos, eos_token=eos, **options)
    except TimeoutError:
        raise TemplateFailedError(
            f"The model's chat template did not finish within {RENDER_SECONDS:g} s."
        ) from None
    except MemoryError:
        raise TemplateFailedError("The model's chat template used too much memory.") from None
    return _tokens(vocabulary, pieces, add_special=vocabulary.adds_bos, parse_control=True)


def tokenize_text(
    path: str, text: str, add_special: bool, marks: Marks, template: str = ""
) -> list[int]:
    """Token ids of a text.

    ``marks`` selects the marks that are read as such if the text spells them: ``all``, ``none``, or
    only those that ``template`` does not write (``other``).
    """
    vocabulary = open_vocabulary(path)
    refused = () if marks == "all" else vocabulary.marks(template)
    untrusted = bytearray(b"\1" * len(text))
    if marks == "other":
        refused = tuple(mark for mark in refused if is_written(mark, template))
        if vocabulary.bos_token and text.startswith(vocabulary.bos_token):
            untrusted[: len(vocabulary.bos_token)] = bytes(len(vocabulary.bos_token))
    pieces = split_marks(text, refused, untrusted)
    return _tokens(vocabulary, pieces, add_special=add_special, parse_control=marks != "none")


def _tokens(
    vocabulary: Any, pieces: list[str], *, add_special: bool, parse_control: bool
) -> list[int]:
    """Token ids of pieces; if they begin with the model's BOS, no second one is added."""
    bos = vocabulary.bos_token
    if parse_control and vocabulary.adds_bos and bos and pieces[0].startswith(bos):
        add_special = False
    with hard_limit(HARD_TOKENIZE_SECONDS):
        token_ids: list[int] = vocabulary.tokenize_pieces(
            pieces, add_special=add_special, parse_control=parse_control
        )
        return token_ids


def detokenize(path: str, token_ids: list[int]) -> str:
    return str(open_vocabulary(path).detokenize(token_ids))


def vocabulary_size(path: str) -> int:
    return int(open_vocabulary(path).size)


def open_vocabulary(path: str) -> Any:
    """The vocabulary of a model file, kept open while recently used and the file is the same."""
    # Imported here: llama.cpp is loaded in this process only.
    from inference.prompts.vocabulary import Vocabulary

    identity = identity_of(path)
    known, vocabulary = _opened.pop(path, (None, None))
    if vocabulary is None or known != identity:
        vocabulary = None  # frees the memory before the next one is read
        vocabulary = Vocabulary(Path(path))
    _opened[path] = (identity, vocabulary)
    if len(_opened) > OPEN_VOCABULARIES:
        del _opened[next(iter(_opened))]
    return vocabulary


def identity_of(path: str) -> Identity:
    """Identifies the file at ``path``; a deleted file's model continues to serve from memory."""
    try:
        status = os.stat(path)
    except OSError:
        return _last_seen.get(path, ())
    identity = (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size)
    _last_seen[path] = identity
    return identity


@contextlib.contextmanager
def _soft_limit() -> Iterator[None]:
    """Interrupt Python code with ``TimeoutError``."""
    signal.setitimer(signal.ITIMER_REAL, RENDER_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


@contextlib.contextmanager
def hard_limit(seconds: float) -> Iterator[None]:
    """End the process after ``seconds`` of processor time.

    For C code: Python's signal handlers and threads cannot interrupt it, the kernel's SIGPROF can.
    """
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)


def _on_alarm(_number: int, _frame: FrameType | None) -> None:
    raise TimeoutError
