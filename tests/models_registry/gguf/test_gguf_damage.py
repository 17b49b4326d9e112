"""Damaged, truncated and hostile GGUF files are refused with the reason, and quickly."""

import os
import random
import resource
import struct
import time
from pathlib import Path

import pytest

from models_registry.gguf.cursor import MAX_HEADER_BYTES, MAX_KEPT_BYTES, MAX_STRINGS
from models_registry.gguf.format import MAX_KEPT_STRING_BYTES
from models_registry.gguf.reader import GGUFError, read_header
from tests.models_registry.gguf_samples import (
    BARE,
    BASE,
    container,
    key_value,
    tensor,
    text,
    u32,
    write_llama,
)

HUGE = 2**63
F32, Q4_0 = 0, 2


def _array(element_type: int, length: int, payload: bytes = b"") -> bytes:
    return struct.pack("<IQ", element_type, length) + payload


DAMAGED = {
    "empty": (b"", "ends inside the magic"),
    "three bytes": (b"GGU", "ends inside the magic"),
    "a zip": (b"PK\x03\x04" + bytes(60), "not a GGUF model"),
    "magic only": (b"GGUF", "ends inside the version"),
    "version 0": (container(*BASE, version=0), "version 0 is not supported"),
    "version 1": (container(*BASE, version=1), "version 1 is not supported"),
    "version 99": (container(*BASE, version=99), "version 99 is not supported"),
    "big-endian": (container(*BASE, version=3 << 24), "big-endian"),
    "huge tensor count": (container(*BASE, tensor_count=HUGE), "declares 9223372036854775808 ten"),
    "huge key count": (container(*BASE, key_value_count=HUGE), "declares 9223372036854775808 key"),
    "too many keys": (container(*BASE, key_value_count=1000), "ends inside 1000 key-values"),
    "too many tensors": (container(*BASE, tensor_count=1000), "ends inside 1000 tensors"),
    "huge key": (container(struct.pack("<Q", HUGE) + bytes(99)), "ends inside a key"),
    "key of 70,000 bytes": (container(u32("k" * 70_000, 1)), "at most 65535"),
    "key not UTF-8": (container(key_value(b"\xff\xfe", 4, bytes(4))), "not valid UTF-8"),
    "key twice": (container(*BASE, u32("x", 1), u32("x", 1)), "'x' occurs twice"),
    "unknown value type": (container(*BASE, key_value("x", 13, bytes(64))), "unknown value type"),
    "huge string": (
        container(*BASE, key_value("x", 8, struct.pack("<Q", HUGE) + bytes(64))),
        "ends inside x",
    ),
    "huge array": (container(*BASE, key_value("x", 9, _array(4, HUGE))), "elements in x"),
    "huge array of texts": (container(*BASE, key_value("x", 9, _array(8, HUGE))), "strings in x"),
    "array of huge texts": (
        container(*BASE, key_value("x", 9, _array(8, 2, struct.pack("<QQ", HUGE, HUGE)))),
        "ends inside x",
    ),
    "nested array": (container(*BASE, key_value("x", 9, _array(9, 1, bytes(64)))), "of arrays"),
    "unknown element type": (
        container(*BASE, key_value("x", 9, _array(77, 1, bytes(64)))),
        "unknown value type 77",
    ),
    "no architecture": (container(*BASE[1:]), "does not name the model's architecture"),
    "architecture a number": (container(u32("general.architecture", 1)), "is not a text"),
    "architecture not UTF-8": (
        container(key_value("general.architecture", 8, text(b"\xff"))),
        "not valid UTF-8",
    ),
    "no block count": (container(*BASE[:3]), "lacks llama.block_count"),
    "zero context": (container(*BASE[:1], *BASE[2:], u32("llama.context_length", 0)), "lacks"),
    "a billion blocks": (
        container(*BASE[:3], u32("llama.block_count", 10**9)),
        "outside 0 to 4096",
    ),
    "context a text": (
        container(*BASE[:1], *BASE[2:], key_value("llama.context_length", 8, text("64"))),
        "not a whole number",
    ),
    "negative heads": (
        container(*BARE, key_value("llama.attention.head_count", 5, struct.pack("<i", -1))),
        "outside 0 to",
    ),
    "too few KV heads": (
        container(*BASE, key_value("llama.attention.head_count_kv", 9, _array(4, 1, bytes(4)))),
        "1 numbers for 2 blocks",
    ),
    "tokens not texts": (
        container(*BARE, key_value("tokenizer.ggml.tokens", 9, _array(4, 1, bytes(4)))),
        "not a list of texts",
    ),
    "add_bos a number": (container(*BASE, u32("tokenizer.ggml.add_bos_token", 1)), "truth value"),
    "unknown pooling": (container(*BASE, u32("llama.pooling_type", 77)), "pooling type 77"),
    "template of 2 MiB": (
        container(
            *BASE, key_value("tokenizer.chat_template", 8, text("x" * (2 * MAX_KEPT_STRING_BYTES)))
        ),
        "more than allowed",
    ),
    "alignment 0": (container(*BASE, u32("general.alignment", 0)), "power of two"),
    "alignment 24": (container(*BASE, u32("general.alignment", 24)), "power of two"),
    "alignment 2**31": (container(*BASE, u32("general.alignment", 2**31)), "power of two"),
    "tensor of 5 dimensions": (
        container(*BASE, tensors=(tensor("t", [1] * 5, F32, 0),), data=bytes(64)),
        "5 dimensions",
    ),
    "tensor type unknown": (
        container(*BASE, tensors=(tensor("t", [8], 99, 0),), data=bytes(64)),
        "unknown type 99",
    ),
    "tensor shape overflows": (
        container(*BASE, tensors=(tensor("t", [2**40, 2**40], F32, 0),), data=bytes(64)),
        "impossible shape",
    ),
    "half a quantised block": (
        container(*BASE, tensors=(tensor("t", [33], Q4_0, 0),), data=bytes(64)),
        "impossible shape",
    ),
    "tensor name too long": (
        container(*BASE, tensors=(tensor("t" * 64, [8], F32, 0),), data=bytes(64)),
        "at most 63",
    ),
    "tensor twice": (
        container(
            *BASE, tensors=(tensor("t", [8], F32, 0), tensor("t", [8], F32, 32)), data=bytes(64)
        ),
        "'t' occurs twice",
    ),
    "tensor out of place": (
        container(*BASE, tensors=(tensor("t", [8], F32, 64),), data=bytes(128)),
        "0 was expected",
    ),
    "tensor beyond the end": (
        container(*BASE, tensors=(tensor("t", [1024], F32, 0),), data=bytes(64)),
        "truncated: its tensors need",
    ),
    "tensor offset huge": (
        container(*BASE, tensors=(tensor("t", [8], F32, 2**64 - 32),), data=bytes(64)),
        "0 was expected",
    ),
}


@pytest.mark.parametrize(("data", "reason"), DAMAGED.values(), ids=DAMAGED.keys())
def test_damage_is_refused_with_the_reason(tmp_path: Path, data: bytes, reason: str) -> None:
    path = tmp_path / "bad.gguf"
    path.write_bytes(data)

    with pytest.raises(GGUFError, match=reason) as caught:
        read_header(path)

    assert str(caught.value).startswith("bad.gguf: ")


@pytest.mark.parametrize("part", [0, 2])
def test_a_part_of_a_model_is_refused_with_the_cure(tmp_path: Path, part: int) -> None:
    path = tmp_path / "m-00001-of-00003.gguf"
    path.write_bytes(container(u32("split.no", part), u32("split.count", 3)))

    with pytest.raises(GGUFError, match=r"one of 3 parts .*llama-gguf-split --merge"):
        read_header(path)


def test_a_model_that_was_joined_is_whole(tmp_path: Path) -> None:
    path = write_llama(tmp_path / "joined.gguf", **{"split.count": 0, "split.no": 0})

    assert read_header(path).architecture == "llama"


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    whole = write_llama(tmp_path / "tiny.gguf").read_bytes()
    path = tmp_path / "short.gguf"
    path.write_bytes(whole)
    for length in range(len(whole) - 1, -1, -1):
        os.truncate(path, length)
        with pytest.raises(GGUFError):
            read_header(path)


def test_flipped_bytes_never_escape_as_another_error(tmp_path: Path) -> None:
    whole = write_llama(tmp_path / "tiny.gguf").read_bytes()
    path = tmp_path / "flipped.gguf"
    chance = random.Random(7)
    refused = 0
    for _ in range(2000):
        data = bytearray(whole)
        for _ in range(chance.randint(1, 4)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        path.write_bytes(data)
        try:
            read_header(path)
        except GGUFError:
            refused += 1
    assert refused > 200


@pytest.mark.parametrize(
    ("length", "reason"),
    [
        (2**30, f"larger than {MAX_HEADER_BYTES} bytes"),
        (MAX_HEADER_BYTES // 8 - 10, f"more than {MAX_STRINGS} texts"),
        (MAX_STRINGS, "does not name the model's architecture"),
    ],
)
def test_endless_texts_are_refused_in_bounded_time_and_memory(
    tmp_path: Path, length: int, reason: str
) -> None:
    path = tmp_path / "endless.gguf"
    with path.open("wb") as file:
        file.write(container(key_value("x", 9, _array(8, length)), key_value_count=1))
        file.truncate(2**34)  # sparse: texts of length 0 without end
    _is_refused_cheaply(path, reason)


COSTLY = {
    "numbers without end": (
        b"".join(
            key_value(f"k{number}", 9, _array(0, 4096, bytes(4096))) for number in range(16_000)
        ),
        f"values are larger than {MAX_KEPT_BYTES} bytes",
    ),
    "texts without end": (
        b"".join(key_value(f"k{number}", 8, text(bytes(4000))) for number in range(16_000)),
        f"values are larger than {MAX_KEPT_BYTES} bytes",
    ),
    "lists of texts without end": (
        b"".join(
            key_value(f"k{number}", 9, _array(8, 5000, bytes(40_000))) for number in range(999)
        ),
        f"more than {MAX_STRINGS} texts",
    ),
}


@pytest.mark.parametrize(("values", "reason"), COSTLY.values(), ids=COSTLY.keys())
def test_values_without_end_are_refused_in_bounded_time_and_memory(
    tmp_path: Path, values: bytes, reason: str
) -> None:
    path = tmp_path / "costly.gguf"
    path.write_bytes(container(values, key_value_count=16_000))

    _is_refused_cheaply(path, reason)


def test_tensors_without_end_are_refused_in_bounded_time(tmp_path: Path) -> None:
    path = tmp_path / "costly.gguf"
    table = tuple(tensor(f"t{number}", [1], F32, number * 32) for number in range(32_768))
    path.write_bytes(container(*BASE, tensors=table))

    _is_refused_cheaply(path, "tensors need")


def _is_refused_cheaply(path: Path, reason: str) -> None:
    """It takes less than a second of the processor, and no more memory than the header."""
    before_kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.process_time()

    with pytest.raises(GGUFError, match=reason):
        read_header(path)

    # The bound is a second; a busy machine may take a few times that.
    assert time.process_time() - started < 3
    grown_kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kilobytes
    assert grown_kilobytes * 1024 < MAX_HEADER_BYTES


def test_pipe_is_refused_without_waiting(tmp_path: Path) -> None:
    path = tmp_path / "pipe.gguf"
    os.mkfifo(path)

    with pytest.raises(GGUFError, match="not a regular file"):
        read_header(path)
