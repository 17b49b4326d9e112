"""Runs of several models that nobody conducts any more, and the texts of old runs."""

import logging
from datetime import timedelta
from typing import Any, Final

from django.utils import timezone
from redis import Redis

from inference.conf import InferenceSettings
from inference.errors import HostLostError
from inference.messages import TERMINAL, Failed, Finished, Usage, decode_frame, encode
from inference.models import OrchestrationRun, RunStep
from inference.queue import keys
from inference.queue.scripts import script

logger = logging.getLogger(__name__)

_SELF: Final = "controller"
_CANCELLED: Final = encode(Finished("cancelled", Usage(0, 0)))


def settle_left_runs(client: Redis, settings: InferenceSettings) -> None:
    """End the runs whose web process has died, if no client has come back for them."""
    grace = settings.orchestration.grace_seconds
    running = OrchestrationRun.objects.filter(state=OrchestrationRun.State.RUNNING)
    for run in running.defer("frozen"):
        item = keys.item(f"{run.pk}.0")
        if _has_ended(client, run):
            # Its process died between the last frame and the row.
            _close(run)
            continue
        lease: Any = client.hget(item, "lease")
        now, _ = client.time()
        is_young = (timezone.now() - run.started_at).total_seconds() < grace
        if (lease and float(lease) + grace > now) or (not lease and is_young):
            continue
        conduct: Any = client.register_script(script("conduct"))
        if conduct(keys=[item], args=[_SELF, 60, 60, "1"]):
            _end(client, run, settings.stream_ttl_seconds)


def blank_old_texts(settings: InferenceSettings) -> None:
    """Delete the texts of runs that ended some time ago; their numbers stay."""
    old = timezone.now() - timedelta(seconds=settings.orchestration.text_ttl_seconds)
    steps = RunStep.objects.filter(run__ended_at__lt=old).exclude(said=b"", text="")
    steps.update(said=b"", text="")
    texts = ["agreed_points", "flagged_points", "notices", "error"]
    for run in OrchestrationRun.objects.filter(ended_at__lt=old, summary__has_any_keys=texts):
        for name in texts:
            run.summary.pop(name, None)
        run.save(update_fields=["summary"])


def _end(client: Redis, run: OrchestrationRun, ttl_seconds: int) -> None:
    logger.warning("the run %s is stopped: its web process died", run.pk)
    cancel: Any = client.register_script(script("cancel"))
    for step in run.steps.filter(ended_at=None):
        queue = keys.queue(step.version_key)
        cancel(keys=[queue], args=[f"{step.generation_id}.0", _CANCELLED, ttl_seconds])
    ended = run.steps.exclude(ended_at=None)
    usage = Usage(
        sum(step.prompt_tokens for step in ended), sum(step.completion_tokens for step in ended)
    )
    text = "The process that conducted this run died, and nobody came back for it."
    last = encode(Failed(HostLostError.default_code, text, usage=usage))
    stream = keys.stream(f"{run.pk}.0")
    relay: Any = client.register_script(script("relay"))
    number = client.xlen(stream) + 1
    relay(
        keys=[keys.item(f"{run.pk}.0"), stream, keys.NEEDED],
        args=[_SELF, 60, ttl_seconds, "1", f"{run.pk}.0", "{}", number, last],
    )
    _close(run)


def _has_ended(client: Redis, run: OrchestrationRun) -> bool:
    """Tell whether the stream of a run has its last frame."""
    entries: Any = client.xrevrange(keys.stream(f"{run.pk}.0"), count=1)
    return bool(entries) and isinstance(decode_frame(entries[0][1][b"f"]), TERMINAL)


def _close(run: OrchestrationRun) -> None:
    OrchestrationRun.objects.filter(pk=run.pk, state=OrchestrationRun.State.RUNNING).update(
        state=OrchestrationRun.State.CANCELLED,
        frozen=b"",
        error_code=HostLostError.default_code,
        ended_at=timezone.now(),
    )
