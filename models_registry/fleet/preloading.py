"""What the settings want in memory from the start: a list of models, or the members of a preset."""

from collections.abc import Iterable, Sequence

from django.conf import settings

from models_registry.catalogue.lookup import find_version
from models_registry.errors import RegistryError
from models_registry.models import ModelVersion, Node, Preset, Replica


def configured_versions(models: Sequence[str], preset_name: str) -> list[ModelVersion]:
    """The versions that ``INFERENCE_PRELOAD_MODELS`` names, or else those of a preset.

    Args:
        models: ``model`` or ``model@version`` each; goes before the preset.
        preset_name: ``INFERENCE_CONFIG``; "" for none.

    Raises:
        RegistryError: no such model, version or preset.
    """
    names = list(models) or _members(preset_name)
    versions: dict[int, ModelVersion] = {}
    for name in dict.fromkeys(names):
        version = find_version(name)
        if version is None:
            raise RegistryError(
                f"{name!r} is to be loaded (INFERENCE_PRELOAD_MODELS or INFERENCE_CONFIG), but "
                "the registry does not know it. GET /v1/models lists what there is."
            )
        versions[version.pk] = version
    return list(versions.values())


def forget_other_wishes(wanted: Iterable[ModelVersion], node: Node) -> int:
    """Want nothing in memory but ``wanted``, as a start of ``node`` with other settings asks for.

    Pinned versions stay, and so does all on other machines. The audit trail has what goes.

    Returns:
        How many replicas are no longer wanted.
    """
    others = node.replicas.filter(desired=Replica.Desired.RESIDENT, version__pinned=False)
    forgotten = list(others.exclude(version__in=[version.pk for version in wanted]))
    for replica in forgotten:
        replica.desired = Replica.Desired.ABSENT
        replica.save(update_fields=["desired"])
    return len(forgotten)


def configured_now() -> list[ModelVersion]:
    """The versions that the settings preload; none where they name what is not there."""
    wishes = settings.INFERENCE
    try:
        return configured_versions(wishes.preload_models, wishes.config_preset)
    except RegistryError:  # the controller says so
        return []


def configured_preset(models: Sequence[str], preset_name: str) -> Preset | None:
    """The preset that the settings load; None where they name none, or models instead.

    Args:
        models, preset_name: as ``configured_versions`` takes them.
    """
    wanted = "" if models else preset_name
    return Preset.objects.filter(name=wanted).first() if wanted else None


def _members(preset_name: str) -> list[str]:
    if not preset_name:
        return []
    preset = configured_preset((), preset_name)
    if preset is None:
        raise RegistryError(
            f"There is no preset {preset_name!r} (INFERENCE_CONFIG). The admin lists those there "
            "are."
        )
    members = preset.members.select_related("model", "version__model")
    return [member.version.key if member.version else member.model.slug for member in members]
