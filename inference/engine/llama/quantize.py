"""Quantise a GGUF file; run as a program, so that it can be stopped and its crash harms nobody.

    python -m inference.engine.llama.quantize SOURCE TARGET TYPE THREADS

It writes lines to standard output: ``size BYTES`` once, how large the tensors will be, and then
``tensor DONE TOTAL`` for each. It ends with status 0 when TARGET is written and its vocabulary
can be loaded, else with status 1 and the reason on standard error.
"""

import ctypes
import os
import re
import sys
from pathlib import Path

import llama_cpp

from inference.engine.backend import ModelLoadError
from inference.engine.llama.runtime import load_model

# What llama.cpp says while it works; llama_model_quantize has no other way to tell.
_SIZE = re.compile(r"quant size\s*=\s*([\d.]+) MiB")
_TENSOR = re.compile(r"^\[\s*(\d+)/\s*(\d+)\]")
_ERROR = 4


def main(arguments: list[str]) -> str | None:
    """Quantise as the command line says; returns why that failed."""
    source, target, quantisation, threads = arguments
    listener = _Listener()
    if not _quantise(source, target, quantisation, int(threads), dry_run=True):
        return listener.reason()
    listener.tells_tensors = True
    if not _quantise(source, target, quantisation, int(threads), dry_run=False):
        return listener.reason()
    try:
        load_model(Path(target), vocabulary_only=True)
    except ModelLoadError as error:
        return f"What was written cannot be read: {error}"
    return None


def _quantise(source: str, target: str, quantisation: str, threads: int, *, dry_run: bool) -> bool:
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype = file_type(quantisation)
    parameters.nthread = threads
    # That this costs quality is said where people choose; the file itself may always be written.
    parameters.allow_requantize = True
    parameters.dry_run = dry_run
    status = llama_cpp.llama_model_quantize(
        os.fsencode(source), os.fsencode(target), ctypes.byref(parameters)
    )
    return int(status) == 0


def file_type(quantisation: str) -> int:
    """llama.cpp's number for files of a quantisation, such as Q4_0."""
    prefix = "ALL" if quantisation == "F32" else "MOSTLY"
    number: int = getattr(llama_cpp, f"LLAMA_FTYPE_{prefix}_{quantisation}")
    return number


class _Listener:
    """Turns llama.cpp's log into lines for the parent; must outlive the calls it listens to."""

    def __init__(self) -> None:
        self.tells_tensors = False
        self._errors: list[str] = []
        self._callback = llama_cpp.llama_log_callback(self._on_log)
        llama_cpp.llama_log_set(self._callback, ctypes.c_void_p(0))

    def reason(self) -> str:
        """What llama.cpp complained of."""
        return "; ".join(self._errors[-3:]) or "llama.cpp gave no reason"

    def _on_log(self, level: int, text: bytes, _user_data: ctypes.c_void_p) -> None:
        line = text.decode("utf-8", "replace").strip()
        if level == _ERROR and line:
            self._errors.append(line)
        size, tensor = _SIZE.search(line), _TENSOR.match(line)
        if size and not self.tells_tensors:
            _tell(f"size {int(float(size[1]) * 2**20)}")
        if tensor and self.tells_tensors:
            _tell(f"tensor {tensor[1]} {tensor[2]}")


def _tell(line: str) -> None:
    try:
        print(line, flush=True)
    except BrokenPipeError:
        # The parent is gone. An exception would be lost here, in a call from C.
        os._exit(1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
