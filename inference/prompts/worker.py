"""What runs in the prompt process: rendering and tokenising, under limits of time and memory.

A template comes out of a model file and a text from anybody, so both may be hostile: a loop
without end, a string of gigabytes, a tokeniser driven into quadratic time. Here they can only
end this process, which the service starts again.
"""

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import resource
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from inference.prompts.chat_template import Scalar, TemplateFailedError, render
from inference.prompts.marks import Marks, is_written, split_marks

RENDER_SECONDS = 2.0
HARD_RENDER_SECONDS = 3.0
HARD_TOKENIZE_SECONDS = 10.0
MEMORY_BYTES = 2 << 30
OPEN_VOCABULARIES = 8
Identity = tuple[int, ...]
_last_seen: dict[str, Identity] = {}
# By path, the one used longest ago first.
_opened: dict[str, tuple[Identity, Any]] = {}


def initialise() -> None:
    """Limit this process's memory, leave Ctrl-C to its parent, and end with its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, _on_alarm)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    limit_memory()
    # PR_SET_PDEATHSIG would not do: it watches the parent's thread, not the parent, and whichever
    # thread needed the pool first has started this process.
    threading.Thread(target=_end_with_parent, daemon=True).start()


def limit_memory() -> None:
    """Have allocations beyond MEMORY_BYTES fail, or beyond an own, lower limit of the system."""
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    soft = MEMORY_BYTES if hard == resource.RLIM_INFINITY else min(MEMORY_BYTES, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def tokenize_chat(
    path: str,
    template: str,
    messages: Sequence[dict[str, Any]],
    tools: Sequence[dict[str, Any]] | None = None,
    variables: Mapping[str, Scalar] | None = None,
    add_generation_prompt: bool = True,
    continue_final_message: bool = False,
) -> list[int]:
    """Render messages with ``template`` and tokenise them with the vocabulary of ``path``.

    The other arguments are ``render``'s.

    Raises:
        TemplateFailedError: the template refused them, or took too long or too much memory.
        ModelLoadError: the vocabulary could not be read.
    """
    vocabulary = open_vocabulary(path)
    marks = vocabulary.marks(template)
    try:
        with hard_limit(HARD_RENDER_SECONDS), _soft_limit():
            pieces = render(
                template,
                messages,
                marks,
                tools=tools,
                variables=variables,
                add_generation_prompt=add_generation_prompt,
                continue_final_message=continue_final_message,
                bos_token=vocabulary.bos_token,
                eos_token=vocabulary.eos_token,
            )
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

    Args:
        path: of the model file.
        text: any text without lone surrogates.
        add_special: add what the model expects around a text, such as a BOS token.
        marks: those that count as such where the text spells them: ``none``, ``all``, or ``other``
            than those of ``template``.
        template: the model's chat template.

    Raises:
        ModelLoadError: the vocabulary cannot be read.
    """
    vocabulary = open_vocabulary(path)
    refused = () if marks == "all" else vocabulary.marks(template)
    outside = bytearray(b"\1" * len(text))
    if marks == "other":
        refused = tuple(mark for mark in refused if is_written(mark, template))
        if vocabulary.bos_token and text.startswith(vocabulary.bos_token):
            outside[: len(vocabulary.bos_token)] = bytes(len(vocabulary.bos_token))
    pieces = split_marks(text, refused, outside)
    return _tokens(vocabulary, pieces, add_special=add_special, parse_control=marks != "none")


def _tokens(
    vocabulary: Any, pieces: list[str], *, add_special: bool, parse_control: bool
) -> list[int]:
    """Token ids of pieces; those that begin with the model's BOS get no second one."""
    bos = vocabulary.bos_token
    if parse_control and vocabulary.adds_bos and bos and pieces[0].startswith(bos):
        add_special = False
    with hard_limit(HARD_TOKENIZE_SECONDS):
        token_ids: list[int] = vocabulary.tokenize_pieces(
            pieces, add_special=add_special, parse_control=parse_control
        )
        return token_ids


def detokenize(path: str, token_ids: list[int]) -> str:
    """Text of token ids. Raises ``ValueError`` for one outside the vocabulary."""
    return str(open_vocabulary(path).detokenize(token_ids))


def vocabulary_size(path: str) -> int:
    """How many tokens the vocabulary has."""
    return int(open_vocabulary(path).size)


def open_vocabulary(path: str) -> Any:
    """The vocabulary of a model file.

    It is kept open until another file takes its place, or OPEN_VOCABULARIES others were used since.

    Raises:
        ModelLoadError: it cannot be read.
    """
    identity = identity_of(path)
    known, vocabulary = _opened.pop(path, (None, None))
    if vocabulary is None or known != identity:
        vocabulary = None  # closed before the next is read, so that there is room for that
        vocabulary = _read(path)
    _opened[path] = (identity, vocabulary)
    if len(_opened) > OPEN_VOCABULARIES:
        del _opened[next(iter(_opened))]
    return vocabulary


def identity_of(path: str) -> Identity:
    """What changes when another file takes this place; of a file that is gone, what it was.

    A model whose file is gone goes on serving from memory.
    """
    try:
        status = os.stat(path)
    except OSError:
        return _last_seen.get(path, ())
    identity = (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size)
    _last_seen[path] = identity
    return identity


def _read(path: str) -> Any:
    # Imported here: llama.cpp belongs into this process alone.
    from inference.prompts.vocabulary import Vocabulary

    return Vocabulary(Path(path))


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

    For C code that does not return: no signal handler of Python's interrupts it, and while it
    holds the interpreter lock no other thread runs. The kernel's own action on SIGPROF does.
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
