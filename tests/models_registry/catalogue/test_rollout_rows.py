"""Defaults, rollback, canaries and deprecation in the registry."""

from pathlib import Path

import pytest
from django.core.exceptions import ValidationError

from models_registry.catalogue import rollout
from models_registry.catalogue.lookup import find_offer
from models_registry.errors import RegistryError
from models_registry.models import ModelVersion
from tests.models_registry.fleet_rows import a_version

pytestmark = pytest.mark.django_db
MODELS_DIR = Path("/models")


@pytest.fixture
def versions() -> list[ModelVersion]:
    """Three of one model, the first its default."""
    first = a_version("a", is_default=True)
    return [first, a_version("b", model=first.model), a_version("c", model=first.model)]


def _default(version: ModelVersion) -> str:
    return version.model.versions.get(is_default=True).label


def test_set_default_leaves_one_default(versions: list[ModelVersion]) -> None:
    first, second, _ = versions
    rollout.set_default(second)
    rollout.set_default(second)
    assert list(first.model.versions.filter(is_default=True)) == [second]


def test_set_default_of_a_model_without_one(versions: list[ModelVersion]) -> None:
    ModelVersion.objects.update(is_default=False)
    rollout.set_default(versions[1])
    assert _default(versions[0]) == "b"
    with pytest.raises(RegistryError):
        rollout.roll_back(versions[0].model)


def _lose_file(version: ModelVersion) -> None:
    ModelVersion.objects.filter(pk=version.pk).update(file_state="absent")
    version.refresh_from_db()


def test_version_without_its_file_gets_no_requests(versions: list[ModelVersion]) -> None:
    first, second, third = versions
    rollout.set_default(second)
    for version in (first, third):
        _lose_file(version)
    for refused in (
        lambda: rollout.set_default(third),
        lambda: rollout.set_canary(third, 10),
        lambda: rollout.roll_back(first.model),
    ):
        with pytest.raises(RegistryError, match=r"is absent\. Download it first"):
            refused()
    assert _default(first) == "b"
    rollout.set_canary(third, 0)
    assert not first.model.versions.filter(canary_percent__gt=0).exists()


def test_roll_back_returns_step_by_step(versions: list[ModelVersion]) -> None:
    first, second, third = versions
    for version in (second, third):
        rollout.set_default(version)
    assert rollout.roll_back(first.model) == second
    assert rollout.roll_back(first.model) == first
    assert _default(first) == "a"
    with pytest.raises(RegistryError, match="has had no other default version"):
        rollout.roll_back(first.model)


def test_roll_back_does_not_return_to_what_was_rolled_back(versions: list[ModelVersion]) -> None:
    first, second, third = versions
    rollout.set_default(second)
    rollout.roll_back(first.model)
    rollout.set_default(ModelVersion.objects.get(pk=third.pk))
    assert rollout.roll_back(first.model) == first


def test_roll_back_passes_over_a_version_that_was_deleted(versions: list[ModelVersion]) -> None:
    first, second, third = versions
    for version in (second, third):
        rollout.set_default(version)
    second.delete()
    assert rollout.roll_back(first.model) == first


def test_canary_gets_requests_that_name_only_the_model(versions: list[ModelVersion]) -> None:
    first, second, third = versions
    rollout.set_canary(second, 10)
    rollout.set_canary(third, 20)
    offer = find_offer(first.model.slug, MODELS_DIR)
    assert offer is not None
    picked = [offer.pick(draw / 100).version_key for draw in range(100)]
    assert [picked.count(version.key) for version in versions] == [70, 10, 20]
    named = find_offer(first.key, MODELS_DIR)
    assert named is not None
    assert named.pick(0.0).version_key == first.key
    plain = find_offer(first.model.slug, MODELS_DIR)
    assert plain is not None
    assert plain.spec.version_key == first.key


def test_canary_without_its_file_gets_nothing(versions: list[ModelVersion]) -> None:
    first, second, _ = versions
    rollout.set_canary(second, 50)
    ModelVersion.objects.filter(pk=second.pk).update(file_state="absent")
    offer = find_offer(first.model.slug, MODELS_DIR)
    assert offer is not None
    assert offer.canaries == ()


def test_canary_shares_are_bounded(versions: list[ModelVersion]) -> None:
    first, second, third = versions
    rollout.set_canary(second, 60)
    for version, percent, reason in (
        (third, 41, "Maximum: 40 %"),
        (third, 101, "less than or equal to 100"),
        (first, 1, "The default version gets the requests that canaries leave"),
    ):
        with pytest.raises(ValidationError, match=reason):
            rollout.set_canary(version, percent)
    rollout.set_canary(third, 40)
    rollout.set_canary(second, 0)
    assert ModelVersion.objects.get(pk=second.pk).canary_percent == 0


def test_canary_that_becomes_the_default_has_no_share(versions: list[ModelVersion]) -> None:
    first, second, _ = versions
    rollout.set_canary(second, 10)
    rollout.set_default(second)
    assert not first.model.versions.filter(canary_percent__gt=0).exists()


def test_deprecated_version_answers_with_its_note(versions: list[ModelVersion]) -> None:
    _, second, _ = versions
    rollout.set_canary(second, 10)
    rollout.deprecate(second, "Use a.")
    offer = find_offer(second.key, MODELS_DIR)
    assert offer is not None
    assert offer.spec.deprecation == f"{second.key} is deprecated. Use a."
    assert second.canary_percent == 0
    with pytest.raises(ValidationError, match="deprecated version cannot be a canary"):
        rollout.set_canary(second, 10)
    rollout.undo_deprecation(second)
    again = find_offer(second.key, MODELS_DIR)
    assert again is not None
    assert again.spec.deprecation == ""
