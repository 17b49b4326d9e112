"""The seed file enters the registry once and spares what people changed."""

from pathlib import Path

import pytest
import yaml

from models_registry.models import Model, ModelVersion, Source
from models_registry.seeding import SEED_FILE, seed_registry

pytestmark = pytest.mark.django_db


def test_seeding_adds_every_model_with_a_default_version_and_sources() -> None:
    seeded = yaml.safe_load(SEED_FILE.read_text())["models"]
    added = seed_registry()
    assert added == [
        f"{model['slug']}@{version['label']}" for model in seeded for version in model["versions"]
    ]
    assert {"smollm2-135m", "all-minilm-l6-v2"} <= {model.slug for model in Model.objects.all()}
    for model in Model.objects.all():
        model.full_clean()
        assert model.versions.filter(is_default=True).count() == 1
    for version in ModelVersion.objects.all():
        version.full_clean()
        assert len(version.sha256) == 64
        assert version.sources.exists()
        assert version.file_state == "absent"


def test_seeding_again_adds_nothing() -> None:
    seed_registry()
    counts = [table.objects.count() for table in (Model, ModelVersion, Source)]
    assert seed_registry() == []
    assert [table.objects.count() for table in (Model, ModelVersion, Source)] == counts


def test_seeding_spares_what_an_administrator_changed() -> None:
    seed_registry()
    version = ModelVersion.objects.get(model__slug="smollm2-135m")
    Model.objects.filter(pk=version.model_id).update(name="Ours", roles=["coder"])
    ModelVersion.objects.filter(pk=version.pk).update(kv_cells=512, is_default=False)
    own = version.model.versions.create(label="own", file_name="own.gguf", is_default=True)
    version.sources.all().delete()
    assert seed_registry() == []
    version.refresh_from_db()
    assert (version.kv_cells, version.is_default, version.sources.count()) == (512, False, 0)
    assert (version.model.name, version.model.roles) == ("Ours", ["coder"])
    assert version.model.versions.get(is_default=True) == own


def test_a_new_seeded_version_does_not_take_the_default_away(tmp_path: Path) -> None:
    seed_registry()
    old = ModelVersion.objects.get(model__slug="smollm2-135m")
    data = yaml.safe_load(SEED_FILE.read_text())
    entry = next(model for model in data["models"] if model["slug"] == "smollm2-135m")
    entry["versions"] = [{**entry["versions"][0], "label": "newer", "file_name": "newer.gguf"}]
    path = tmp_path / "registry.yaml"
    path.write_text(yaml.safe_dump(data))
    assert seed_registry(path) == ["smollm2-135m@newer"]
    assert old.model.versions.get(is_default=True) == old


def test_a_bad_seed_file_adds_nothing(tmp_path: Path) -> None:
    data = yaml.safe_load(SEED_FILE.read_text())
    del data["models"][-1]["versions"][0]["sources"]
    path = tmp_path / "registry.yaml"
    path.write_text(yaml.safe_dump(data))
    with pytest.raises(KeyError):
        seed_registry(path)
    assert not Model.objects.exists()
