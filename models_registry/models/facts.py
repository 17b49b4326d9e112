"""What the header of a version's file says that planning and choosing need."""

from django.db import models


class FileFacts(models.Model):
    """The fields of a version that are read from its file; empty until the file is there."""

    kv_bytes_per_token = models.PositiveIntegerField(
        "KV cache per token in bytes",
        null=True,
        editable=False,
        help_text="With keys and values in f16; 0 for an encoder.",
    )
    capabilities = models.JSONField(
        default=list,
        editable=False,
        help_text="Of chat, completion, tools, fim (fills in a hole) and embedding.",
    )

    class Meta:
        abstract = True
