"""Headers that say which version answered, and that it is deprecated: pure."""

import re
from email.header import Header

VERSION_HEADER = "x-brigade-model-version"


def version_headers(version_key: str, deprecation: str) -> dict[str, str]:
    """Name the version that answered; warn where it has a ``deprecation`` notice."""
    headers = {VERSION_HEADER: version_key}
    if deprecation:
        headers["Deprecation"] = "true"
        headers["Warning"] = f'299 - "{_quotable(deprecation)}"'
    return headers


def _quotable(text: str) -> str:
    """``text`` as warn-text of RFC 7234: one line, quotes escaped, other alphabets encoded."""
    line = re.sub(r"[\x00-\x1f\x7f]+", " ", text)
    try:
        line.encode("ascii")
    except UnicodeEncodeError:
        return Header(line, "utf-8").encode(maxlinelen=0)
    return line.replace("\\", "\\\\").replace('"', '\\"')
