"""Choose the devices for a model among those that llama.cpp finds."""

import ctypes
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import llama_cpp


class DeviceKind(IntEnum):
    """ggml's `enum ggml_backend_dev_type`."""

    CPU = 0
    GPU = 1
    INTEGRATED_GPU = 2
    ACCELERATOR = 3
    META = 4


@dataclass(frozen=True)
class Device:
    """A device as ggml lists it, at ``index``; ``name`` is for example ``CUDA0``."""

    index: int
    name: str
    description: str
    kind: DeviceKind


@dataclass(frozen=True)
class Placement:
    devices: tuple[Device, ...] = ()  # none: the CPU
    gpu_layers: int = 0
    tensor_split: tuple[float, ...] = ()
    notice: str = ""  # names a requested device or option that is not available

    def __str__(self) -> str:
        return ", ".join(f"{item.name} ({item.description})" for item in self.devices) or "CPU"


CPU_ALONE = Placement()


def list_devices() -> list[Device]:
    ggml = _ggml()
    found = []
    for index in range(ggml.ggml_backend_dev_count()):
        handle = ggml.ggml_backend_dev_get(index)
        found.append(
            Device(
                index,
                ggml.ggml_backend_dev_name(handle).decode(),
                ggml.ggml_backend_dev_description(handle).decode(),
                DeviceKind(ggml.ggml_backend_dev_type(handle)),
            )
        )
    return found


def place(
    device: str, gpu_layers: int, tensor_split: Sequence[float], available: Sequence[Device]
) -> Placement:
    """Choose among ``available``; without a match the CPU is used, and ``notice`` says so.

    Args:
        device: ``auto`` for every GPU, ``cpu``, a kind such as ``cuda``, or one such as ``cuda:0``.
        gpu_layers: layers for the chosen devices, -1 for all; with 0 they are not used.
        tensor_split: shares of the chosen devices; empty to divide by their free memory.
        available: from ``list_devices``.
    """
    if device == "cpu" or gpu_layers == 0:
        return CPU_ALONE
    chosen = _chosen(device, available)
    if not chosen:
        if device == "auto":
            return CPU_ALONE
        known = ", ".join(item.name for item in available)
        return Placement(notice=f"There is no {device} here (llama.cpp found {known}): on the CPU.")
    if tensor_split and len(tensor_split) != len(chosen):
        notice = (
            f"The tensor split has {len(tensor_split)} shares for {len(chosen)} devices: split by "
            "free memory instead."
        )
        return Placement(chosen, gpu_layers, (), notice)
    return Placement(chosen, gpu_layers, tuple(tensor_split))


def device_array(devices: Sequence[Device]) -> ctypes.Array[ctypes.c_void_p]:
    """llama.cpp's NULL-terminated list; without entries llama.cpp chooses no devices itself."""
    get = _ggml().ggml_backend_dev_get
    return (ctypes.c_void_p * (len(devices) + 1))(*(get(item.index) for item in devices))


def memory_bytes(device: Device) -> int:
    ggml = _ggml()
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    handle = ctypes.c_void_p(ggml.ggml_backend_dev_get(device.index))
    ggml.ggml_backend_dev_memory(handle, ctypes.byref(free), ctypes.byref(total))
    return total.value


def _chosen(device: str, available: Sequence[Device]) -> tuple[Device, ...]:
    if device == "auto":
        # llama.cpp's own default: an integrated GPU shares the CPU's memory and helps little.
        discrete = tuple(item for item in available if item.kind is DeviceKind.GPU)
        return discrete or tuple(
            item for item in available if item.kind is DeviceKind.INTEGRATED_GPU
        )
    kind, _, number = device.partition(":")
    spelled = re.compile(re.escape(kind) + (number or r"\d*"), re.IGNORECASE)
    gpus = (DeviceKind.GPU, DeviceKind.INTEGRATED_GPU)
    return tuple(item for item in available if item.kind in gpus and spelled.fullmatch(item.name))


def _ggml() -> ctypes.CDLL:
    """ggml's device functions, which llama-cpp-python loads with libllama but does not wrap."""
    library: ctypes.CDLL = llama_cpp.llama_cpp._lib
    library.ggml_backend_dev_count.restype = ctypes.c_size_t
    library.ggml_backend_dev_get.argtypes = [ctypes.c_size_t]
    library.ggml_backend_dev_get.restype = ctypes.c_void_p
    for name in ("name", "description", "type"):
        function = getattr(library, f"ggml_backend_dev_{name}")
        function.argtypes = [ctypes.c_void_p]
        function.restype = ctypes.c_int if name == "type" else ctypes.c_char_p
    return library
