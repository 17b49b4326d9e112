"""Runtime options of a version's replicas."""

import math
import re
from typing import Any, Final

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import MinValueValidator
from django.db import models

from models_registry.rules.spec import ModelType

# The device names of llama.cpp, such as CUDA0, in lower case and with a colon before the number.
_DEVICE: Final = re.compile(r"auto|cpu|(?!auto|cpu)[a-z]+(:\d{1,2})?")
_MAX_DEVICES: Final = 16  # limit of llama.cpp
_UNQUANTISED: Final = {"f32", "f16", "bf16"}


def validate_device(value: str) -> None:
    if not _DEVICE.fullmatch(value):
        raise ValidationError(f"{value!r} is not a device. Write auto, cpu, cuda or cuda:0.")


def validate_tensor_split(value: Any) -> None:
    """Raise ``ValidationError`` unless ``value`` is a list of shares, one for each device."""
    is_list = isinstance(value, list) and all(_is_share(share) for share in value)
    if not is_list or len(value) > _MAX_DEVICES or (value and not any(value)):
        raise ValidationError(
            "Write one share for each device, such as [3, 1]: at most "
            f"{_MAX_DEVICES} numbers, none below 0 and not all 0."
        )


class RuntimeOptions(models.Model):
    class Switch(models.TextChoices):
        AUTO = "auto"
        ON = "on"
        OFF = "off"

    class Speculation(models.TextChoices):
        AUTO = "auto"
        OFF = "off"

    class CacheType(models.TextChoices):
        """Types of keys and values in llama.cpp, from the most exact to the smallest."""

        F32 = "f32", "f32"
        F16 = "f16", "f16"
        BF16 = "bf16", "bf16"
        Q8_0 = "q8_0", "q8_0"
        Q5_1 = "q5_1", "q5_1"
        Q5_0 = "q5_0", "q5_0"
        Q4_1 = "q4_1", "q4_1"
        Q4_0 = "q4_0", "q4_0"
        IQ4_NL = "iq4_nl", "iq4_nl"

    kv_cells = models.PositiveIntegerField(
        "KV cells",
        default=16_384,
        validators=[MinValueValidator(256)],
        help_text="Tokens of KV cache that all sequences of a replica share.",
    )
    max_sequences = models.PositiveIntegerField(
        default=32,
        validators=[MinValueValidator(1)],
        help_text="Generations that one replica runs at once.",
    )
    threads = models.PositiveSmallIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text="CPU threads; empty for INFERENCE_THREADS.",
    )
    device = models.CharField(
        max_length=20,
        default="auto",
        validators=[validate_device],
        help_text="auto (a GPU if there is one), cpu, cuda (all GPUs) or cuda:0. The CPU is used "
        "if the device is missing.",
    )
    gpu_layers = models.IntegerField(
        "GPU layers",
        default=-1,
        validators=[MinValueValidator(-1)],
        help_text="Layers on the GPU: -1 for all, 0 for none.",
    )
    tensor_split = models.JSONField(
        default=list,
        blank=True,
        validators=[validate_tensor_split],
        help_text="Shares of several GPUs, such as [3, 1]; [] goes by their free memory.",
    )
    flash_attention = models.CharField(max_length=4, choices=Switch.choices, default=Switch.AUTO)
    cache_type_k = models.CharField(
        "KV cache type of keys", max_length=6, choices=CacheType.choices, default=CacheType.F16
    )
    cache_type_v = models.CharField(
        "KV cache type of values",
        max_length=6,
        choices=CacheType.choices,
        default=CacheType.F16,
        help_text="Quantised values need flash attention.",
    )
    draft_model = models.ForeignKey(
        "models_registry.ModelVersion",
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="drafts_for",
        limit_choices_to={"model__type": ModelType.TEXT_GENERATION},
        help_text="A small version with the same vocabulary, for speculative decoding.",
    )
    speculation = models.CharField(
        max_length=4,
        choices=Speculation.choices,
        default=Speculation.AUTO,
        help_text="Speculative decoding: faster, with the same answers.",
    )

    class Meta:
        abstract = True

    @classmethod
    def option_names(cls) -> list[str]:
        return [field.name for field in RuntimeOptions._meta.local_fields]

    @property
    def layers_on_gpu(self) -> int:
        """``gpu_layers``, or ``INFERENCE_GPU_LAYERS`` if it is -1."""
        default: int = settings.INFERENCE.gpu_layers
        return default if self.gpu_layers < 0 else self.gpu_layers

    def clean(self) -> None:
        super().clean()
        if self.flash_attention == self.Switch.OFF and self.cache_type_v not in _UNQUANTISED:
            raise ValidationError(
                {
                    "cache_type_v": f"Values in {self.cache_type_v} need flash attention. Set "
                    "it to auto or on, or set the values to f16."
                }
            )
        if self.tensor_split and (self.device == "cpu" or ":" in self.device):
            raise ValidationError(
                {"tensor_split": f"{self.device} is one device. Leave the split empty."}
            )
        if self.gpu_layers == 0 and self.device not in ("auto", "cpu"):
            raise ValidationError(
                {
                    "gpu_layers": f"With 0 layers {self.device} is not used. Set -1, or the "
                    "device cpu."
                }
            )


def _is_share(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and math.isfinite(value) and value >= 0
