"""Quantise a GGUF file, in a process of its own that can be stopped or crash.

    python -m inference.engine.llama.quantize SOURCE TARGET TYPE THREADS

Lines on standard output: ``size BYTES`` of the tensors once, then ``tensor DONE TOTAL`` for each.
The exit status is 0 when TARGET is written and its vocabulary can be loaded, else 1 with the reason
on standard error.
"""

import ctypes
import os
import re
import sys
from pathlib import Path

import llama_cpp

from inference.engine.backend import ModelLoadError
from inference.engine.llama.runtime import GGML_LOG_ERROR, load_model

# Lines of llama.cpp's log: llama_model_quantize reports its progress in no other way.
_SIZE = re.compile(r"quant size\s*=\s*([\d.]+) MiB")
_TENSOR = re.compile(r"^\[\s*(\d+)/\s*(\d+)\]")


def main(arguments: list[str]) -> str | None:
    """Quantise as the command line says; return the reason of a failure."""
    source, target, quantisation, threads = arguments
    log_reader = _LogReader()
    if not _quantise(source, target, quantisation, int(threads), dry_run=True):
        return log_reader.reason()
    log_reader.prints_tensors = True
    if not _quantise(source, target, quantisation, int(threads), dry_run=False):
        return log_reader.reason()
    try:
        load_model(Path(target), vocabulary_only=True)
    except ModelLoadError as error:
        return f"The written file cannot be read: {error}"
    return None


def _quantise(source: str, target: str, quantisation: str, threads: int, *, dry_run: bool) -> bool:
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype = file_type(quantisation)
    parameters.nthread = threads
    # The loss of quality is explained where people choose; here it is never refused.
    parameters.allow_requantize = True
    parameters.dry_run = dry_run
    status = llama_cpp.llama_model_quantize(
        os.fsencode(source), os.fsencode(target), ctypes.byref(parameters)
    )
    return int(status) == 0


def file_type(quantisation: str) -> int:
    prefix = "ALL" if quantisation == "F32" else "MOSTLY"
    number: int = getattr(llama_cpp, f"LLAMA_FTYPE_{prefix}_{quantisation}")
    return number


class _LogReader:
    """Reads llama.cpp's log and prints progress; must outlive the calls that log."""

    def __init__(self) -> None:
        self.prints_tensors = False
        self._errors: list[str] = []
        self._callback = llama_cpp.llama_log_callback(self._on_log)
        llama_cpp.llama_log_set(self._callback, ctypes.c_void_p(0))

    def reason(self) -> str:
        return "; ".join(self._errors[-3:]) or "llama.cpp gave no reason"

    def _on_log(self, level: int, text: bytes, _user_data: ctypes.c_void_p) -> None:
        line = text.decode("utf-8", "replace").strip()
        if level == GGML_LOG_ERROR and line:
            self._errors.append(line)
        size, tensor = _SIZE.search(line), _TENSOR.match(line)
        if size and not self.prints_tensors:
            _print_line(f"size {int(float(size[1]) * 2**20)}")
        if tensor and self.prints_tensors:
            _print_line(f"tensor {tensor[1]} {tensor[2]}")


def _print_line(line: str) -> None:
    try:
        print(line, flush=True)
    except BrokenPipeError:
        # The parent is gone. An exception would be lost here, in a call from C.
        os._exit(1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
