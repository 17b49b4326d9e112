"""Which devices a model is put on: what llama.cpp found, and what is chosen of it."""

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
    """A device as ggml lists it; ``name`` is such as ``CUDA0``, ``index`` its place in the list."""

    index: int
    name: str
    description: str
    kind: DeviceKind


@dataclass(frozen=True)
class Placement:
    """Where a model goes: no ``devices`` means the CPU alone.

    ``notice`` says what was asked for and could not be had; "" when there is nothing to say.
    """

    devices: tuple[Device, ...] = ()
    gpu_layers: int = 0
    tensor_split: tuple[float, ...] = ()
    notice: str = ""

    def __str__(self) -> str:
        """The devices for people to read."""
        return ", ".join(f"{item.name} ({item.description})" for item in self.devices) or "CPU"


CPU_ALONE = Placement()


def list_devices() -> list[Device]:
    """What this build of llama.cpp can compute on, in ggml's order."""
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
    """Choose among ``available``; what cannot be had is replaced by the CPU, with a notice.

    Args:
        device: ``auto`` for every GPU there is, ``cpu``, a kind as in ``cuda``, or one as in
            ``cuda:0``.
        gpu_layers: layers for the chosen devices, -1 for all; with 0 they are not used.
        tensor_split: shares of the chosen devices; empty to go by their free memory.
        available: as ``list_devices`` gives them.
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
    """llama.cpp's NULL-terminated list of them; an empty one keeps it from choosing itself."""
    get = _ggml().ggml_backend_dev_get
    return (ctypes.c_void_p * (len(devices) + 1))(*(get(item.index) for item in devices))


def _chosen(device: str, available: Sequence[Device]) -> tuple[Device, ...]:
    if device == "auto":
        # As llama.cpp's own default: an integrated GPU shares the CPU's memory and helps little.
        discrete = tuple(item for item in available if item.kind is DeviceKind.GPU)
        return discrete or tuple(
            item for item in available if item.kind is DeviceKind.INTEGRATED_GPU
        )
    kind, _, number = device.partition(":")
    spelled = re.compile(re.escape(kind) + (number or r"\d*"), re.IGNORECASE)
    gpus = (DeviceKind.GPU, DeviceKind.INTEGRATED_GPU)
    return tuple(item for item in available if item.kind in gpus and spelled.fullmatch(item.name))


def _ggml() -> ctypes.CDLL:
    """ggml's registry of devices, which llama-cpp-python loads with libllama and does not wrap."""
    library: ctypes.CDLL = llama_cpp.llama_cpp._lib
    library.ggml_backend_dev_count.restype = ctypes.c_size_t
    library.ggml_backend_dev_get.argtypes = [ctypes.c_size_t]
    library.ggml_backend_dev_get.restype = ctypes.c_void_p
    for name in ("name", "description", "type"):
        function = getattr(library, f"ggml_backend_dev_{name}")
        function.argtypes = [ctypes.c_void_p]
        function.restype = ctypes.c_int if name == "type" else ctypes.c_char_p
    return library
