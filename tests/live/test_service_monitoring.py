"""Monitoring of real processes: one trace over web and host, JSON logs, figures for Prometheus."""

import json
import urllib.request
from collections import defaultdict
from pathlib import Path

import pytest
from openai import OpenAI

from tests.collector import Collector
from tests.live.service import CHAT_VERSION, LiveService
from tests.metrics.prometheus.test_counters import samples_of
from tests.waiting import wait_until

pytestmark = [pytest.mark.live, pytest.mark.timeout(300)]
MODEL = "smollm2-135m"
TRACE = "0af7651916cd43dd8448eb211c80319c"


def test_web_and_host_share_a_trace_the_log_and_the_metrics(
    smollm2_path: Path, minilm_path: Path
) -> None:
    collector = Collector()
    service = LiveService(
        smollm2_path.parent,
        OTEL_EXPORTER_OTLP_ENDPOINT=collector.endpoint,
        INFERENCE_LOG_FORMAT="json",
    )
    with service.running():
        client = OpenAI(base_url=service.base_url + "/v1", api_key=service.api_key)
        with collector.listening():
            assert _stream(client, TRACE)
            found = collector.trace(TRACE, 5)
        host = found[f"chat {MODEL}"]
        web = found["POST /v1/chat/completions"]
        assert set(found) == {web.name, "queue", host.name, "prefill", "decode"}
        assert web.start < host.start < host.end < web.end
        logs = "".join(path.read_text() for path in service.home.glob("logs/*"))
        lines = [json.loads(line) for line in logs.splitlines() if line.startswith("{")]
        (access,) = [one for one in lines if one["trace_id"] == TRACE]
        assert access["run_id"] == host.attributes["gen_ai.response.id"]
        wait_until(lambda: _metrics(service)["brigade_requests_total"], 20)
        shown = _metrics(service)
        assert shown["brigade_requests_total"]["chat", "finished", CHAT_VERSION] == 1
        assert shown["brigade_generation_tokens_total"][CHAT_VERSION,] == 60
        assert shown["brigade_time_to_first_token_seconds_count"][CHAT_VERSION,] == 1
        assert shown["brigade_loads_total"][CHAT_VERSION,] == 1
        assert shown["brigade_ready_replicas"][CHAT_VERSION,] == 1
        assert shown["brigade_resident_bytes"][CHAT_VERSION,] > 10**8
        assert shown["brigade_controller_up"] == {(): 1}
        # The collector is away now, with spans on their way.
        assert _stream(client, "1" * 32)
        assert service.stop() == 0


def _metrics(service: LiveService) -> dict[str, dict[tuple[str, ...], float]]:
    request = urllib.request.Request(
        service.base_url + "/metrics", headers={"Authorization": f"Bearer {service.api_key}"}
    )
    with urllib.request.urlopen(request, timeout=10) as response:
        return defaultdict(dict, samples_of(response.read()))


def _stream(client: OpenAI, trace_id: str) -> int:
    """Ask for a long answer within a trace; returns the number of chunks."""
    stream = client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "Count on and on."}],
        max_tokens=60,
        stream=True,
        extra_body={"ignore_eos": True},
        extra_headers={"traceparent": f"00-{trace_id}-b7ad6b7169203331-01"},
    )
    return sum(1 for _ in stream)
