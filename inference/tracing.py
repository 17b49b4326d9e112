"""Traces of requests over web, queue and host, for OpenTelemetry.

    POST /v1/chat/completions     SERVER, from authentication to the last byte
    ├── queue                     until a host claims the generation
    └── chat smollm2-135m         on the host
        ├── prefill
        └── decode

Off unless ``settings.TRACING``; the exporter is not even imported then. Neither tokens nor chunks
have spans: a host makes its spans when a generation ends, from the times that it has measured.
Names of attributes are by the conventions for generative AI, which are still being renamed.
"""

import os
import threading
import time
from contextvars import ContextVar
from typing import Any, Final

from django.conf import settings
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from inference.messages import Failed, Finished, Generation, WorkItem, run_id_of
from inference.request_id import current_request_id, current_traceparent

OPERATION: Final = "gen_ai.operation.name"
MODEL: Final = "gen_ai.request.model"
# The SDK reads these variables and others of its own.
DEFAULTS: Final = {
    "OTEL_SERVICE_NAME": "brigade",
    "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
    "OTEL_TRACES_SAMPLER_ARG": "0.05",
    "OTEL_BSP_SCHEDULE_DELAY": "1000",
}
# A collector that is away must not delay the end of a process.
STOP_SECONDS: Final = 1.0

_request_span: ContextVar[Span | None] = ContextVar("request_span", default=None)
_provider: Any = None
_tracer: Any = None


def start() -> None:
    """Begin to export spans, where tracing is on. It starts a thread: call it after the fork."""
    global _provider, _tracer
    if not settings.TRACING or _provider is not None:
        return
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    _provider = TracerProvider(shutdown_on_exit=False)
    _provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    _tracer = _provider.get_tracer("brigade")


def stop() -> None:
    """Send what is left, for at most ``STOP_SECONDS``."""
    global _provider, _tracer
    if _provider is None:
        return
    thread = threading.Thread(target=_provider.shutdown, name="stop tracing", daemon=True)
    thread.start()
    thread.join(STOP_SECONDS)
    _provider = _tracer = None


def begin_request(name: str, traceparent: str) -> None:
    """Begin the span of the request that this task answers.

    Args:
        name: takes few values: a route, not an address.
        traceparent: as the client sent it, or "".
    """
    if _tracer is None:
        return
    attributes = {"brigade.request_id": current_request_id.get()}
    span = _tracer.start_span(name, _context(traceparent), SpanKind.SERVER, attributes)
    _request_span.set(span)
    own = span.get_span_context()
    current_traceparent.set(f"00-{own.trace_id:032x}-{own.span_id:016x}-{own.trace_flags:02x}")


def end_request(status: int | None = None) -> None:
    """End the span of this task's request, if there is one, with the status of its answer."""
    span = _request_span.get()
    if span is None:
        return
    if status is not None:
        span.set_attribute("http.response.status_code", status)
        if status >= 500:
            _fail(span, str(status))
    span.end()
    _request_span.set(None)


def record_item(item: WorkItem, began_at: float, last: Finished | Failed) -> None:
    """Make a host's spans for an item that ends now with ``last``.

    Args:
        item: names the span of its request; without one that is sampled there are no spans.
        began_at: monotonic time of the claim.
        last: its last frame, with all its times.
    """
    # The lowest bit of the last digit: sampled.
    if _tracer is None or not int(item.traceparent[-1:] or "0", 16) & 1:
        return
    now = time.time_ns()
    claimed = now - _nanoseconds(time.monotonic() - began_at)
    prefilled = claimed + _nanoseconds(last.timings.prefill_seconds)
    decoded = prefilled + _nanoseconds(last.timings.decode_seconds)
    request = _context(item.traceparent)
    _add("queue", request, claimed - _nanoseconds(last.timings.queue_seconds), claimed)
    attributes = _attributes(item, last)
    name = f"{attributes[OPERATION]} {attributes[MODEL]}"
    span = _tracer.start_span(name, request, attributes=attributes, start_time=claimed)
    inside = set_span_in_context(span)
    if prefilled > claimed:
        _add("prefill", inside, claimed, prefilled)
    if decoded > prefilled:
        _add("decode", inside, prefilled, decoded)
    if isinstance(last, Failed):
        _fail(span, last.code)
    span.end(now)


def _attributes(item: WorkItem, last: Finished | Failed) -> dict[str, Any]:
    run_id = run_id_of(item.id)
    attributes: dict[str, Any] = {
        OPERATION: "embeddings",
        MODEL: item.version_key.partition("@")[0],
        "gen_ai.provider.name": "brigade",
        "gen_ai.response.model": item.version_key,
        "gen_ai.response.id": run_id,
    }
    if isinstance(item, Generation):
        attributes |= {
            OPERATION: "text_completion" if run_id.startswith("cmpl-") else "chat",
            "gen_ai.request.max_tokens": item.max_tokens,
            "gen_ai.request.temperature": item.sampling.temperature,
            "gen_ai.request.top_p": item.sampling.top_p,
        }
    if isinstance(last, Finished):
        attributes["gen_ai.response.finish_reasons"] = [last.reason]
    if last.usage is not None:
        attributes |= {
            "gen_ai.usage.input_tokens": last.usage.prompt_tokens,
            "gen_ai.usage.output_tokens": last.usage.completion_tokens,
            "gen_ai.usage.cache_read.input_tokens": last.usage.cached_tokens,
        }
    return attributes


def _add(name: str, context: Context, start: int, end: int) -> None:
    _tracer.start_span(name, context, start_time=start).end(end)


def _fail(span: Span, error_type: str) -> None:
    span.set_status(Status(StatusCode.ERROR))
    span.set_attribute("error.type", error_type)


def _context(traceparent: str) -> Context:
    """The context of a remote span; an unreadable one counts as none."""
    return TraceContextTextMapPropagator().extract({"traceparent": traceparent}, Context())


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)
