"""Rows of the registry for tests."""

import uuid
from pathlib import Path
from typing import Any

from django.utils import timezone

from models_registry.files.header_upgrade import upgrade_headers
from models_registry.fleet.snapshot import take_snapshot
from models_registry.fleet.views import Wishes, version_views, wanted_versions
from models_registry.gguf.kept import header_facts
from models_registry.gguf.reader import GGUFHeader
from models_registry.models import Model, ModelVersion, Node
from models_registry.plan.facts import VersionView

NOWHERE = Path("/nowhere")

# Of a model that takes some megabytes.
TINY = GGUFHeader(
    architecture="llama", name="Tiny", quantisation="F32", context_length=64, embedding_length=32,
    block_count=2, feed_forward_length=48, head_count=4, head_count_kv=(2, 2), key_length=8,
    value_length=8, vocab_size=1000, merge_count=0, chat_template=None, bos_token_id=0,
    eos_token_id=1, add_bos=True, pooling_type=None, causal=True, sliding_window=0,
    tensor_bytes=1 << 20, file_bytes=1 << 20,
)  # fmt: skip


def a_version(label: str = "v1", model: Model | None = None, **fields: Any) -> ModelVersion:
    """A version whose file is there, of a new model unless one is given."""
    if model is None:
        model = Model.objects.create(slug=f"m-{uuid.uuid4().hex}", name="Test")
    defaults = {
        # The first has a name that tests know; two versions never share a file.
        "file_name": f"{uuid.uuid4().hex}.gguf" if ModelVersion.objects.exists() else "a.gguf",
        "file_state": ModelVersion.FileState.READY,
        "header": header_facts(TINY),
    }
    return ModelVersion.objects.create(model=model, label=label, **(defaults | fields))


def a_node(max_replicas: int = 4, budget_bytes: int = 1 << 40) -> Node:
    """A node under a name of its own, that has shown itself."""
    return Node.objects.create(
        name=f"n-{uuid.uuid4().hex}",
        max_replicas=max_replicas,
        devices=[
            {
                "name": "cpu",
                "description": "",
                "memory_bytes": budget_bytes,
                "budget_bytes": budget_bytes,
            }
        ],
        seen_at=timezone.now(),
    )


def views(
    wishes: Wishes, default_keep_alive_seconds: float = -1, models_dir: Path = NOWHERE
) -> dict[str, VersionView]:
    """The versions that somebody wants, as a tick of the controller sees them; all nodes answer."""
    snapshot = take_snapshot()
    upgrade_headers(snapshot.incomplete_files, models_dir)
    wanted = wanted_versions(snapshot, wishes)
    return version_views(wanted, wishes, snapshot.nodes, default_keep_alive_seconds)
