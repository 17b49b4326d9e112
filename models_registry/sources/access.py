"""What a source needs to know about who is asking: tokens and endpoints, from the settings."""

from dataclasses import dataclass, field
from typing import Final

HUGGING_FACE: Final = "https://huggingface.co"


@dataclass(frozen=True)
class Access:
    """Credentials and addresses; those of S3 are found by botocore, where AWS keeps them.

    ``hf_token`` is "" where there is none; ``hf_endpoint`` is Hugging Face or a mirror of it.
    ``only_public`` keeps web sources from this machine and private networks.
    """

    hf_token: str = field(default="", repr=False)
    hf_endpoint: str = HUGGING_FACE
    only_public: bool = False


ANONYMOUS: Final = Access()
