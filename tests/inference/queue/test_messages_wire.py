"""Every record survives the wire."""

from collections.abc import Callable

import msgspec
import pytest

from inference import messages
from inference.messages import (
    Cancel,
    Delta,
    Drain,
    Embedding,
    Failed,
    Finished,
    Generation,
    Phase,
    Record,
    SamplingParameters,
    Started,
    Timings,
    TokenLogprob,
    Usage,
    Vectors,
)

_SAMPLING = SamplingParameters(
    temperature=0.5,
    top_p=0.9,
    top_k=40,
    min_p=0.1,
    presence_penalty=-1.5,
    frequency_penalty=1.5,
    repeat_penalty=1.1,
    seed=2**63 - 1,
    logit_bias={0: -100.0, 50_000: 3.5},
)
WORK: list[Record] = [
    Generation("a", "m@v", [1, 2], 5),
    Generation("a", "m@v", [1], 5, _SAMPLING, ("\n", "É"), 20, 3, True, [7, 8], 9, 1),
    Embedding("e", "m@v", [[1], [2, 3]]),
    Embedding("e", "m@v", [[]], 1, 4, 1),
]
FRAMES: list[Record] = [
    Started(3),
    Started(3, 2),
    Delta("", [1]),
    Delta("é\0", [1, 2], [TokenLogprob("é", "é".encode(), -0.5, [("a", b"\xff", -2.0)])]),
    Phase({"event": "step_end", "usage": {"prompt_tokens": 3}, "groups": [[0, 1], [2]]}),
    Vectors(2, bytes(range(16)), 7),
    Finished("stop", Usage(1, 2)),
    Finished("cancelled", Usage(1, 2, 1), Timings(0.1, 0.2, 0.3)),
    Finished("partial", Usage(1, 2, hidden_tokens=1), summary={"orchestration": {"rounds": 2}}),
    Failed("host_lost", "It died."),
    Failed("model_unavailable", "It rests.", 12.5),
    Failed("host_lost", "It died.", None, Usage(1, 2, 3, 4, 5, 6, 7), Timings(0.1, 0.2, 0.3, 0.4)),
]
CONTROLS: list[Record] = [Cancel("a"), Drain()]
Decoder = Callable[[bytes], Record]
DECODERS: list[tuple[Decoder, list[Record]]] = [
    (messages.decode_work, WORK),
    (messages.decode_frame, FRAMES),
    (messages.decode_control, CONTROLS),
]


@pytest.mark.parametrize(
    ("decode", "record"), [(decode, record) for decode, records in DECODERS for record in records]
)
def test_record_survives_the_wire(decode: Decoder, record: Record) -> None:
    decoded = decode(messages.encode(record))
    assert decoded == record
    assert type(decoded) is type(record)


def test_every_kind_of_record_is_tried() -> None:
    tried = {type(record) for _, records in DECODERS for record in records}
    assert tried == set(Record.__subclasses__())


@pytest.mark.parametrize(
    ("decode", "record"),
    [
        (decode, record)
        for decode, own in DECODERS
        for _, records in DECODERS
        for record in records
        if record not in own
    ],
)
def test_record_of_another_kind_is_refused(decode: Decoder, record: Record) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode(messages.encode(record))


@pytest.mark.parametrize("data", [b"", b"\xc1", b"junk", messages.encode(Started(3))[:-1]])
def test_damaged_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        messages.decode_frame(data)


@pytest.mark.parametrize("failed", [frame for frame in FRAMES if isinstance(frame, Failed)])
def test_parts_of_a_failed_frame_join_with_any_usage(failed: Failed) -> None:
    beginning, _ = messages.failed_parts(failed, Usage(0, 0))
    _, rest = messages.failed_parts(Failed("other", ""), Usage(7, 2**40, 3))
    expected = Failed(failed.code, failed.message, failed.retry_after_seconds, Usage(7, 2**40, 3))
    assert messages.decode_frame(beginning + rest) == expected


def test_frames_of_a_release_before_usage_of_failures_can_be_read() -> None:
    old = msgspec.msgpack.encode(["Failed", "host_lost", "It died.", None])
    assert messages.decode_frame(old) == Failed("host_lost", "It died.")
    old = msgspec.msgpack.encode(["Finished", "stop", [1, 2, 0, 0, 0], [0.1, 0.2, 0.3]])
    assert messages.decode_frame(old) == Finished("stop", Usage(1, 2), Timings(0.1, 0.2, 0.3))
