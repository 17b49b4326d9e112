"""The versions that the settings want in memory: a list of models, or the members of a preset."""

from collections.abc import Iterable, Sequence

from django.conf import settings

from models_registry.catalogue.lookup import find_version
from models_registry.errors import RegistryError
from models_registry.models import ModelVersion, Node, Preset, Replica


def configured_versions(models: Sequence[str], preset_name: str) -> list[ModelVersion]:
    """The versions of ``INFERENCE_PRELOAD_MODELS``, or else of ``INFERENCE_CONFIG``.

    Raises:
        RegistryError: no such model, version or preset.
    """
    names = list(models)
    if preset_name and not names:
        preset = configured_preset((), preset_name)
        if preset is None:
            raise RegistryError(
                f"There is no preset {preset_name!r} (INFERENCE_CONFIG). The admin lists the "
                "presets."
            )
        for member in preset.members.select_related("model", "version__model"):
            names.append(member.version.key if member.version else member.model.slug)
    versions: dict[int, ModelVersion] = {}
    for name in dict.fromkeys(names):
        version = find_version(name)
        if version is None:
            raise RegistryError(
                f"{name!r} is to be loaded (INFERENCE_PRELOAD_MODELS or INFERENCE_CONFIG), but "
                "the registry does not know it. GET /v1/models lists the known models."
            )
        versions[version.pk] = version
    return list(versions.values())


def forget_other_wishes(wanted: Iterable[ModelVersion], node: Node) -> int:
    """Want no replicas on ``node`` but pinned ones and ``wanted``; returns how many go."""
    others = node.replicas.filter(desired=Replica.Desired.RESIDENT, version__pinned=False)
    forgotten = list(others.exclude(version__in=[version.pk for version in wanted]))
    for replica in forgotten:
        replica.desired = Replica.Desired.ABSENT
        replica.save(update_fields=["desired"])
    return len(forgotten)


def configured_now() -> list[ModelVersion]:
    """The versions that the settings preload; none where they name an unknown model or preset."""
    wishes = settings.INFERENCE
    try:
        return configured_versions(wishes.preload_models, wishes.config_preset)
    except RegistryError:  # the controller logs it
        return []


def configured_preset(models: Sequence[str], preset_name: str) -> Preset | None:
    wanted = "" if models else preset_name
    return Preset.objects.filter(name=wanted).first() if wanted else None
