"""Parts of requests that have no effect, named in the answer's header and in the log."""

import logging
import re
from collections.abc import Sequence
from functools import lru_cache

from inference.conf import inference_settings
from inference.errors import InvalidRequestError
from inference.principal import Principal

logger = logging.getLogger(__name__)

HEADER = "Brigade-Ignored"
# Proxies take 8 KiB for all headers together.
MAX_HEADER_CHARACTERS = 2000
_INDEX = re.compile(r"\[\d+\]")


def report_ignored(principal: Principal, names: Sequence[str]) -> None:
    """Log names of ignored parts of a request.

    Raises:
        InvalidRequestError: there are some, and INFERENCE_STRICT_PARAMETERS is on.
    """
    if names and inference_settings().strict_parameters:
        raise InvalidRequestError(
            f"{names[0]!r} has no effect here. Leave it out.",
            param=names[0].partition(":")[0],
            code="unsupported_parameter",
        )
    for name in names:
        # Without what the client has made up, which would have no end.
        kind = "chat_template_kwargs" if name.startswith("chat_template_kwargs.") else name
        _log_once(principal.username, principal.key_id, _INDEX.sub("[]", kind))


def header_value(names: Sequence[str]) -> str:
    """The header that lists ``names``; a long list ends with the number of names left out."""
    shown = ", ".join(names)
    if len(shown) > MAX_HEADER_CHARACTERS:
        kept = shown[:MAX_HEADER_CHARACTERS].count(", ")
        shown = ", ".join([*names[:kept], f"and {len(names) - kept} more"])
    return shown.encode("ascii", "backslashreplace").decode()


@lru_cache(maxsize=65_536)
def _log_once(username: str, key_id: int | None, name: str) -> None:
    logger.info("ignored for %s (key %s): %s", username, key_id, name)
