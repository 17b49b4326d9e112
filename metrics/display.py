"""Facts of requests as people read them."""

import re
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from django.template.loader import render_to_string

NOTHING: Final = "-"
_COLOURS: Final = {"finished": "success", "cancelled": "warning", "failed": "danger"}


def duration(microseconds: float | None) -> str:
    """``340 ms``, ``1.8 s``, ``18 s`` or ``3 min 20 s``; a hyphen for None."""
    if microseconds is None:
        return NOTHING
    if microseconds < 999_500:
        return f"{microseconds / 1000:.{1 if 0 < microseconds < 9_950 else 0}f} ms"
    seconds = microseconds / 1_000_000
    if seconds < 59.5:
        return f"{seconds:.{1 if seconds < 9.95 else 0}f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def money(nano: int) -> str:
    """Billionths of a US dollar as ``$12.34``; below a dollar two digits count: ``$0.0012``."""
    dollars = Decimal(abs(nano)).scaleb(-9)
    if dollars and dollars < 1:
        # The position of the second digit that is not zero.
        dollars = round(dollars, 1 - dollars.adjusted())
        text = f"{dollars:f}"
    else:
        text = f"{dollars:,.2f}"
    return f"{'-' if nano < 0 else ''}${text}"


def rate(tokens: int, microseconds: int | None) -> str:
    """``28/s``, the tokens per second; "" where no time is known."""
    if not microseconds or not tokens:
        return ""
    per_second = tokens * 1_000_000 / microseconds
    return f"{per_second:.{1 if per_second < 9.95 else 0}f}/s"


def shown(row: Any, field: str) -> str:
    """The value of a record's or a step's field, in the form that its kind has."""
    value = getattr(row, field)
    if field == "outcome":
        colour = _COLOURS.get(value, "default")
        return render_to_string("unfold/helpers/label.html", {"text": value, "type": colour})
    if field.endswith("_us"):
        return duration(value)
    if field.endswith("_nano"):
        return money(value)
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S} UTC"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else value or NOTHING


def title(field: str) -> str:
    """``ttft_us`` as ``TTFT``, ``version_key`` as ``version``, ``slot`` as plain words."""
    words = re.sub("_(us|nano|name|key|tokens)$", "", field)
    words = words.replace("delta", "amount").replace("slot", "quarter of an hour")
    return words.replace("ttft", "TTFT").replace("_", " ")
