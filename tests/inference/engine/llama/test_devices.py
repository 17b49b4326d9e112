"""Where a model goes, decided over devices that this machine need not have."""

import pytest

from inference.engine.llama.devices import Device, DeviceKind, list_devices, place

CPU = Device(0, "CPU", "a processor", DeviceKind.CPU)
BLAS = Device(1, "BLAS", "a library", DeviceKind.ACCELERATOR)
CUDA = [Device(2 + n, f"CUDA{n}", "a card", DeviceKind.GPU) for n in range(2)]
METAL = Device(1, "Metal", "a chip", DeviceKind.GPU)
INTEGRATED = Device(4, "Vulkan0", "a chip", DeviceKind.INTEGRATED_GPU)
TWO_CARDS = [CPU, BLAS, *CUDA, INTEGRATED]


@pytest.mark.parametrize(
    ("device", "available", "chosen"),
    [
        ("auto", [CPU], []),
        ("auto", TWO_CARDS, CUDA),
        ("auto", [CPU, INTEGRATED], [INTEGRATED]),
        ("cpu", TWO_CARDS, []),
        ("cuda", TWO_CARDS, CUDA),
        ("cuda:0", TWO_CARDS, CUDA[:1]),
        ("cuda:1", TWO_CARDS, CUDA[1:]),
        ("vulkan", TWO_CARDS, [INTEGRATED]),
        ("metal", [CPU, METAL], [METAL]),
    ],
)
def test_device_is_chosen_among_those_there_are(
    device: str, available: list[Device], chosen: list[Device]
) -> None:
    placement = place(device, -1, (), available)
    assert list(placement.devices) == chosen
    assert placement.gpu_layers == (-1 if chosen else 0)
    assert placement.notice == ""


@pytest.mark.parametrize("device", ["cuda:2", "cuda:10", "cud", "metal", "blas", "rocm:0"])
def test_device_that_is_not_there_becomes_the_cpu_and_says_so(device: str) -> None:
    placement = place(device, -1, (), TWO_CARDS)
    assert (placement.devices, placement.gpu_layers, str(placement)) == ((), 0, "CPU")
    assert f"There is no {device} here" in placement.notice
    assert "CUDA0, CUDA1" in placement.notice


def test_no_layers_leave_the_devices_alone() -> None:
    assert str(place("auto", 0, (), TWO_CARDS)) == "CPU"


def test_split_goes_with_as_many_devices() -> None:
    assert place("cuda", 20, (3, 1), TWO_CARDS).tensor_split == (3, 1)
    placement = place("cuda", 20, (3, 1, 1), TWO_CARDS)
    assert placement.tensor_split == ()
    assert "3 shares for 2 devices" in placement.notice


def test_placement_reads_well() -> None:
    assert str(place("cuda:1", -1, (), TWO_CARDS)) == "CUDA1 (a card)"


def test_devices_of_this_machine_include_its_cpu() -> None:
    assert [item.name for item in list_devices() if item.kind is DeviceKind.CPU] == ["CPU"]
