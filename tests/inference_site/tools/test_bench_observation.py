import pytest

from inference_site.tools.bench.observation import Arrival, Observation
from inference_site.tools.bench.wire import Usage


def observed(*arrivals, tokens=None, streamed=True):
    usage = None if tokens is None else Usage(10, tokens)
    return Observation(
        100.0, streamed=streamed, arrivals=list(arrivals), usage=usage, finished_seconds=101.0
    )


def test_times_count_from_the_start():
    seen = observed(Arrival(100.25, 1, 4))
    assert seen.ttft_seconds == 0.25
    assert seen.latency_seconds == 1.0


def test_answer_without_text_or_without_stream_has_no_ttft():
    assert observed().ttft_seconds is None
    assert observed(Arrival(100.5, 1, 4), streamed=False).ttft_seconds is None


def test_inter_token_is_the_gap_where_each_frame_is_a_token():
    seen = observed(Arrival(100.0, 1, 5), Arrival(100.5, 1, 1), Arrival(100.75, 1, 9), tokens=3)
    assert seen.inter_token_seconds() == [0.5, 0.25]
    assert seen.streaming_tokens_per_second == pytest.approx(2 / 0.75)


def test_frames_read_together_share_their_gap():
    seen = observed(Arrival(100.0, 1, 5), Arrival(100.5, 2, 10), tokens=3)
    assert seen.inter_token_seconds() == [0.25, 0.25]
    assert seen.chunk_gaps_seconds() == [0.5]


def test_tokens_of_coalesced_frames_are_dealt_by_length():
    seen = observed(Arrival(100.0, 1, 4), Arrival(101.0, 1, 12), tokens=4)
    assert seen.arrival_tokens() == [1, 3]
    assert seen.inter_token_seconds() == [pytest.approx(1 / 3)] * 3


def test_every_arrival_has_a_token_at_least():
    seen = observed(Arrival(100.0, 1, 1), Arrival(101.0, 1, 99), tokens=10)
    assert seen.arrival_tokens() == [1, 10]


def test_frames_stand_for_tokens_where_usage_is_missing():
    assert observed(Arrival(100.0, 2, 4), Arrival(101.0, 1, 4)).completion_tokens == 3


def test_one_arrival_has_no_rate():
    assert observed(Arrival(100.0, 3, 4), tokens=3).streaming_tokens_per_second is None
