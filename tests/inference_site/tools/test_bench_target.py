import json

import pytest

from inference_site.tools.bench.target import Target, TargetError, resolve_target


@pytest.fixture
def home(tmp_path):
    stored = {"base_url": "http://127.0.0.1:8085/v1", "api_key": "stored", "admin_user": "a"}
    (tmp_path / "first_run.json").write_text(json.dumps(stored))
    return tmp_path


def resolve(home, base_url=None, api_key=None, name=None):
    return resolve_target(home, base_url=base_url, api_key=api_key, model="m", name=name)


@pytest.mark.parametrize("base", ["http://h:1", "http://h:1/", "http://h:1/v1", "http://h:1/v1/"])
def test_url_is_the_same_with_and_without_v1(base):
    assert Target("t", base, "", "m").url("/models") == "http://h:1/v1/models"


def test_target_is_what_the_first_run_stored(home):
    target = resolve(home)
    assert (target.name, target.base_url, target.api_key) == (
        "Brigade",
        "http://127.0.0.1:8085/v1",
        "stored",
    )


def test_given_key_and_address_win(home):
    assert resolve(home, api_key="mine").api_key == "mine"
    target = resolve(home, base_url="http://other:1", api_key="mine", name="n")
    assert (target.name, target.base_url, target.api_key) == ("n", "http://other:1", "mine")


def test_stored_key_goes_to_the_stored_address_only(home):
    assert resolve(home, base_url="http://127.0.0.1:8085").api_key == "stored"
    assert resolve(home, base_url="http://elsewhere:8085").api_key == ""


def test_server_elsewhere_is_called_by_its_address(tmp_path):
    assert resolve(tmp_path, base_url="https://h:7/v1").name == "h:7"


def test_missing_first_run_says_how_to_start(tmp_path):
    with pytest.raises(TargetError, match="make run"):
        resolve(tmp_path)


def test_broken_first_run_is_named(tmp_path):
    (tmp_path / "first_run.json").write_text("{}")
    with pytest.raises(TargetError, match=r"first_run\.json cannot be used"):
        resolve(tmp_path)


def test_address_without_a_scheme_is_refused(tmp_path):
    with pytest.raises(TargetError, match="http://"):
        resolve(tmp_path, base_url="localhost:8085")
