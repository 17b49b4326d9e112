"""An order and its run, as the ledger's facts and record."""

import time
from datetime import UTC, datetime

import msgspec

from inference.ledger.admission import Admission, entry_of
from inference.messages import item_ids_of
from inference.orders.order import Order
from inference.principal import Principal
from inference.request_id import current_request_id
from inference.runs.run import Run
from metrics.ledger.entry import Entry

_MICROSECONDS = 1_000_000


def admission_of(order: Order, principal: Principal) -> Admission:
    """The facts about an accepted order, which has its run id."""
    names = (
        ("user", principal.user_id, principal.username),
        ("key", principal.key_id, principal.key_name),
        ("team", principal.team_id, principal.team_name),
    )
    return Admission(
        run_id=order.run_id,
        kind=order.kind,
        user_id=principal.user_id,
        version_key=order.spec.version_key,
        item_ids=item_ids_of(order.run_id, order.attempt, order.choices),
        choices_per_prompt=order.n,
        names=[(kind, number, name) for kind, number, name in names if number and name],
        key_id=principal.key_id,
        team_id=principal.team_id,
        request_id=current_request_id.get(),
        end_user=order.end_user,
        requested_model=order.request.model if order.request else order.spec.model_slug,
        preset=order.spec.preset,
        priority=order.priority,
        streamed=bool(order.request and order.request.stream),
        prices=order.spec.prices,
    )


def record_of(
    admission: Admission, started_at: datetime, run: Run, accepted_at: float
) -> Entry | None:
    """The record of a run that was settled; None where its end is not known yet.

    Args:
        admission: of the run.
        started_at: the moment of admission by the clock of Redis.
        run: settled.
        accepted_at: the same moment on this process's monotonic clock.
    """
    if not run.is_over:
        return None
    version = msgspec.structs.replace(admission, version_key=run.header.version_key)
    first = run.first_token_at
    return entry_of(
        version,
        started_at,
        datetime.now(UTC),
        [choice.finished or choice.failed for choice in run.choices],
        total_us=round((time.monotonic() - accepted_at) * _MICROSECONDS),
        ttft_us=None if first is None else round((first - accepted_at) * _MICROSECONDS),
        error_code=run.error_code,
        tier=run.tier,
    )
