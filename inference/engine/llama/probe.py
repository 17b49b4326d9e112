"""``python -m inference.engine.llama.probe``: what llama.cpp finds on this machine, as JSON.

A program of its own, since a process that forks hosts must not have llama.cpp in it.
"""

import ctypes
import json
import re
import sys

import llama_cpp

from inference.engine.llama.devices import DeviceKind, list_devices


def cpu_features(system_info: str) -> list[str]:
    """The words of ``llama_print_system_info()`` that are on, such as ``AMX_INT8``."""
    return re.findall(r"(\w+) = 1\b", system_info)


def device_name(llama_name: str) -> str:
    """How the registry writes a device: ``cuda:0`` for ``CUDA0``."""
    return re.sub(r"^(\D+)(\d+)$", r"\1:\2", llama_name).lower()


def memory_bytes(index: int) -> int:
    """The memory of a device of ``list_devices``."""
    ggml = llama_cpp.llama_cpp._lib
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    ggml.ggml_backend_dev_get.restype = ctypes.c_void_p
    handle = ctypes.c_void_p(ggml.ggml_backend_dev_get(ctypes.c_size_t(index)))
    ggml.ggml_backend_dev_memory(handle, ctypes.byref(free), ctypes.byref(total))
    return total.value


def main() -> None:
    """Print what there is."""
    llama_cpp.llama_backend_init()
    info = llama_cpp.llama_print_system_info().decode()
    gpus = [
        {
            "name": device_name(device.name),
            "description": device.description,
            "memory_bytes": memory_bytes(device.index),
        }
        for device in list_devices()
        if device.kind is DeviceKind.GPU
    ]
    json.dump({"gpus": gpus, "cpu_features": cpu_features(info)}, sys.stdout)


if __name__ == "__main__":
    main()
