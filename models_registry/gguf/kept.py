"""A header as ``ModelVersion.header`` keeps it."""

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec

from models_registry.gguf.reader import GGUFHeader

TEMPLATE_SHA256 = "chat_template_sha256"


def header_facts(header: GGUFHeader) -> dict[str, Any]:
    """The values to keep of a header.

    The chat template has a field of its own; its checksum tells whether that field is as the file
    has it.
    """
    facts: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(header))
    sha256 = template_sha256(header.chat_template) if header.chat_template else None
    return facts | {"chat_template": None, TEMPLATE_SHA256: sha256}


def template_sha256(template: str) -> str:
    """The checksum (hex) of a chat template."""
    return hashlib.sha256(template.encode()).hexdigest()


def kept_header(facts: Mapping[str, Any] | None) -> GGUFHeader | None:
    """The header; None where the file was not read yet, or by a release that kept less."""
    if facts is None:
        return None
    try:
        return msgspec.convert(facts, GGUFHeader)
    except msgspec.ValidationError:
        return None
