"""``python -m inference.engine.llama.probe`` prints GPUs and CPU features as JSON.

It is a program because a process that forks hosts must not import llama.cpp.
"""

import json
import re
import sys

import llama_cpp

from inference.engine.llama.devices import DeviceKind, list_devices, memory_bytes


def cpu_features(system_info: str) -> list[str]:
    """The enabled features in ``llama_print_system_info()``, such as ``AMX_INT8``."""
    return re.findall(r"(\w+) = 1\b", system_info)


def device_name(llama_name: str) -> str:
    """The registry's name of a device: ``cuda:0`` for ``CUDA0``."""
    return re.sub(r"^(\D+)(\d+)$", r"\1:\2", llama_name).lower()


def main() -> None:
    llama_cpp.llama_backend_init()
    info = llama_cpp.llama_print_system_info().decode()
    gpus = [
        {
            "name": device_name(device.name),
            "description": device.description,
            "memory_bytes": memory_bytes(device),
        }
        for device in list_devices()
        if device.kind is DeviceKind.GPU
    ]
    json.dump({"gpus": gpus, "cpu_features": cpu_features(info)}, sys.stdout)


if __name__ == "__main__":
    main()
