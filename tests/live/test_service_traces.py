"""Traces of real processes: one trace over web and host, and a clean stop without a collector."""

import json
from pathlib import Path

import pytest
from openai import OpenAI

from tests.collector import Collector
from tests.live.service import LiveService

pytestmark = [pytest.mark.live, pytest.mark.timeout(300)]
MODEL = "smollm2-135m"
TRACE = "0af7651916cd43dd8448eb211c80319c"


def test_web_and_host_share_a_trace_and_logs_are_json(
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
        # The collector is away now, with spans on their way.
        assert _stream(client, "1" * 32)
        assert service.stop() == 0


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
