"""How long the registry's word on a version is believed."""

import pytest

from inference import services
from inference.database import in_database
from inference.errors import ModelNotFoundError
from inference.services import InferenceService
from models_registry.models import ModelVersion
from tests.stack import database, service, shared_tokenizer, version  # noqa: F401 - fixtures


async def test_version_is_not_read_anew_for_each_request(
    service: InferenceService,  # noqa: F811
    version: ModelVersion,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(services, "SPEC_SECONDS", 60.0)
    spec = await service.resolve(version.model.slug, "text_generation")
    await in_database(ModelVersion.objects.update, chat_template="new")
    assert await service.resolve(version.model.slug, "text_generation") is spec


async def test_version_is_read_anew_after_a_while(
    service: InferenceService,  # noqa: F811
    version: ModelVersion,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(services, "SPEC_SECONDS", 0.0)
    await service.resolve(version.model.slug, "text_generation")
    await in_database(ModelVersion.objects.update, chat_template="new")
    spec = await service.resolve(version.model.slug, "text_generation")
    assert spec.chat_template == "new"
    await in_database(version.model.delete)
    with pytest.raises(ModelNotFoundError):
        await service.resolve(version.model.slug, "text_generation")
