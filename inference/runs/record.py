"""A run that has ended, as the record that usage reports are made from."""

import time

from inference.principal import Principal
from inference.runs.run import Run
from metrics.models import RequestRecord


def record_of(run: Run, principal: Principal, end_user: str) -> RequestRecord:
    """The record of a run, not saved yet; with a failed and a cancelled choice it has failed."""
    failed = next((choice.failed for choice in run.choices if choice.failed), None)
    finished = [choice.finished for choice in run.choices if choice.finished]
    usage = run.usage
    now = time.monotonic()
    error_code = failed.code if failed else run.error_code
    outcome = RequestRecord.Outcome.FINISHED
    if error_code:
        outcome = RequestRecord.Outcome.FAILED
    elif any(last.reason == "cancelled" for last in finished):
        outcome = RequestRecord.Outcome.CANCELLED
    return RequestRecord(
        run_id=run.header.id,
        request_id=run.request_id,
        kind=run.header.kind,
        user_id=principal.user_id,
        key_id=principal.key_id,
        end_user=end_user,
        version_key=run.header.version_key,
        outcome=outcome,
        error_code=error_code,
        prompt_tokens=usage.prompt_tokens,
        cached_tokens=usage.cached_tokens,
        completion_tokens=usage.completion_tokens,
        queue_seconds=max((last.timings.queue_seconds for last in finished), default=None),
        prefill_seconds=max((last.timings.prefill_seconds for last in finished), default=None),
        decode_seconds=max((last.timings.decode_seconds for last in finished), default=None),
        total_seconds=now - run.began_at,
    )
