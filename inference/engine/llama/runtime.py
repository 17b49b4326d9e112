"""Functions of both llama.cpp backends: options, loading, logging, batch buffers."""

import ctypes
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
import numpy.typing as npt
from gguf import GGMLQuantizationType

from inference.engine.backend import ModelLoadError, Span
from inference.engine.llama.devices import CPU_ALONE, Placement, device_array, list_devices, place

logger = logging.getLogger("llama.cpp")
_recent_errors: deque[str] = deque(maxlen=5)
GGML_LOG_WARN, GGML_LOG_ERROR = 3, 4
_FLASH_ATTENTION = {
    "auto": llama_cpp.LLAMA_FLASH_ATTN_TYPE_AUTO,
    "on": llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED,
    "off": llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED,
}
# From this many pairs of a query and a cell on, attention in tiles saves as much as reading the
# weights once more costs (135M parameters on two cores; with larger models both grow).
_TILED_PAIRS = 12_000


@dataclass(frozen=True)
class LlamaOptions:
    """Options of a version, in the registry's words; ``devices.place`` explains the devices."""

    threads: int
    device: str = "auto"
    gpu_layers: int = -1
    tensor_split: tuple[float, ...] = ()
    flash_attention: str = "auto"
    cache_type_k: str = "f16"
    cache_type_v: str = "f16"

    def placement(self) -> Placement:
        return place(self.device, self.gpu_layers, self.tensor_split, list_devices())

    def tiled_pairs(self, placement: Placement) -> int:
        """For ``Backend.tiled_pairs``."""
        # ggml_compute_forward_flash_attn_ext_f16 has the tiles. It is used on a CPU with keys and
        # values in F16, to which llama.cpp converts F32.
        types = {self.cache_type_k, self.cache_type_v}
        has_tiles = self.flash_attention != "off" and types <= {"f16", "f32"}
        return _TILED_PAIRS if has_tiles and not placement.devices else 0

    def context_parameters(self) -> llama_cpp.llama_context_params:
        parameters = llama_cpp.llama_context_default_params()
        parameters.flash_attn_type = _FLASH_ATTENTION[self.flash_attention]
        parameters.type_k = GGMLQuantizationType[self.cache_type_k.upper()].value
        parameters.type_v = GGMLQuantizationType[self.cache_type_v.upper()].value
        parameters.no_perf = True
        parameters.kv_unified = True
        parameters.n_threads = parameters.n_threads_batch = self.threads
        return parameters


@llama_cpp.llama_log_callback  # type: ignore[untyped-decorator,unused-ignore]
def _on_log(level: int, text: bytes, _user_data: ctypes.c_void_p) -> None:
    line = text.decode("utf-8", "replace").strip()
    if level == GGML_LOG_ERROR and line:
        _recent_errors.append(line)
        logger.error(line)
    elif level == GGML_LOG_WARN and line:
        # Mostly a context longer than the model was trained for, which admission prevents.
        logger.debug(line)


def load_model(
    path: Path,
    *,
    placement: Placement = CPU_ALONE,
    vocabulary_only: bool = False,
    on_progress: Callable[[float], None] | None = None,
) -> llama_cpp.llama_model_p:
    """Map a GGUF file; ``on_progress`` is called with the loaded fraction, 0 to 1.

    Raises ``ModelLoadError`` with llama.cpp's reason.
    """
    llama_cpp.llama_log_set(_on_log, ctypes.c_void_p(0))
    llama_cpp.llama_backend_init()
    parameters = llama_cpp.llama_model_default_params()
    devices = device_array(placement.devices)
    split = (ctypes.c_float * llama_cpp.LLAMA_MAX_DEVICES)(*placement.tensor_split)
    parameters.devices = ctypes.cast(devices, ctypes.c_void_p)
    parameters.n_gpu_layers = placement.gpu_layers
    if placement.tensor_split:
        parameters.tensor_split = split
    parameters.vocab_only = vocabulary_only

    @llama_cpp.llama_progress_callback  # type: ignore[untyped-decorator,unused-ignore]
    def report(fraction: float, _user_data: ctypes.c_void_p) -> bool:
        if on_progress is not None:
            on_progress(fraction)
        return True

    parameters.progress_callback = report
    _recent_errors.clear()
    if not path.is_file():
        raise ModelLoadError(f"The model file {path} does not exist.")
    model = llama_cpp.llama_model_load_from_file(str(path).encode(), parameters)
    if not model:
        raise ModelLoadError(f"llama.cpp could not load {path.name}: {_failure_reason()}")
    return model


def new_context(
    model: llama_cpp.llama_model_p, parameters: llama_cpp.llama_context_params
) -> llama_cpp.llama_context_p:
    """Raises ``ModelLoadError``, most often for lack of memory for the KV cache."""
    context = llama_cpp.llama_init_from_model(model, parameters)
    if not context:
        raise ModelLoadError(
            f"llama.cpp could not make a context of {parameters.n_ctx} tokens: {_failure_reason()}"
        )
    return context


def _failure_reason() -> str:
    return "; ".join(_recent_errors) or "llama.cpp gave no reason"


def token_bytes(vocabulary: Any, token_id: int, *, special: bool) -> bytes:
    size = 64
    while True:
        buffer = ctypes.create_string_buffer(size)
        length = llama_cpp.llama_token_to_piece(vocabulary, token_id, buffer, size, 0, special)
        if length >= 0:
            return buffer.raw[:length]
        size = -length


class BatchBuffers:
    """One reusable ``llama_batch`` over NumPy arrays."""

    def __init__(self, max_tokens: int) -> None:
        self.max_tokens = max_tokens
        self._tokens = np.zeros(max_tokens, dtype=np.int32)
        self._positions = np.zeros(max_tokens, dtype=np.int32)
        self._sequence_counts = np.ones(max_tokens, dtype=np.int32)
        self._sequence_values = np.zeros(max_tokens, dtype=np.int32)
        self._logits = np.zeros(max_tokens, dtype=np.int8)
        # ``seq_id`` in llama.cpp is an array of pointers. These always point into one array of
        # values, so that filling a span takes four slice assignments.
        base, size = self._sequence_values.ctypes.data, self._sequence_values.itemsize
        self._pointers = np.array([base + size * i for i in range(max_tokens)], dtype=np.uintp)
        self.batch = llama_cpp.llama_batch(
            n_tokens=0,
            token=_pointer(self._tokens, ctypes.c_int32),
            embd=None,
            pos=_pointer(self._positions, ctypes.c_int32),
            n_seq_id=_pointer(self._sequence_counts, ctypes.c_int32),
            seq_id=ctypes.cast(
                self._pointers.ctypes.data, ctypes.POINTER(ctypes.POINTER(ctypes.c_int32))
            ),
            logits=_pointer(self._logits, ctypes.c_int8),
        )

    def fill(self, spans: list[Span]) -> list[int]:
        """Put spans into the batch; return the row of each span's first output."""
        total = sum(len(span.token_ids) for span in spans)
        if total > self.max_tokens:
            raise ValueError(f"a batch of {total} tokens exceeds {self.max_tokens}")
        self._logits[:total] = 0
        rows = []
        row = 0
        for span in spans:
            end = row + len(span.token_ids)
            self._tokens[row:end] = span.token_ids
            self._positions[row:end] = np.arange(span.start, span.start + end - row)
            self._sequence_values[row:end] = span.sequence_id
            self._logits[end - span.outputs : end] = 1
            rows.append(end - span.outputs)
            row = end
        self.batch.n_tokens = row
        return rows

    def request_all_outputs(self) -> None:
        self._logits[: self.batch.n_tokens] = 1


class AbortFlag:
    """Stops ``llama_decode`` from another thread without Python code in the decode."""

    def __init__(self, context: llama_cpp.llama_context_p) -> None:
        # llama.cpp calls its abort callback after every graph node, about a thousand times a step.
        # A Python callback would take the interpreter lock each time. C's ``strlen`` has a suitable
        # signature: 0 for an empty string continues, 1 for a string of one character aborts.
        self._text = ctypes.create_string_buffer(b"", 2)
        strlen = ctypes.CDLL(None).strlen
        self._callback = ctypes.cast(strlen, llama_cpp.ggml_abort_callback)
        llama_cpp.llama_set_abort_callback(
            context, self._callback, ctypes.cast(self._text, ctypes.c_void_p)
        )

    def set(self) -> None:
        self._text[0] = b"x"

    def clear(self) -> None:
        self._text[0] = b"\0"


def _pointer(array: npt.NDArray[np.generic], kind: type[ctypes.c_int32 | ctypes.c_int8]) -> object:
    return ctypes.cast(array.ctypes.data, ctypes.POINTER(kind))
