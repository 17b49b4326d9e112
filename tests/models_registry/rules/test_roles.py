"""Routes, roles, members of modes, and canary shares."""

import pytest

from models_registry.rules.mode_settings import read_settings
from models_registry.rules.roles import (
    Candidate,
    Route,
    choose_model,
    choose_parts,
    choose_route,
    member_faults,
)
from models_registry.rules.spec import ModelSpec, Offer

ROUTES = {
    "default": Route("primary"),
    "code": Route("coder", "primary"),
    "document": Route("longctx", "thinker"),
}


@pytest.mark.parametrize(
    ("task_type", "role"),
    [("code", "coder"), ("", "primary"), ("knitting", "primary"), ("document", "longctx")],
)
def test_route_of_a_type_of_task_is_its_own_or_the_default(task_type: str, role: str) -> None:
    assert choose_route(task_type, ROUTES).role == role


def test_route_without_any_rows_is_primary_then_any_model() -> None:
    assert choose_route("code", {}) == Route("primary", "")


def _chosen(route: Route, *candidates: Candidate) -> str | None:
    chosen = choose_model(route, candidates)
    return None if chosen is None else chosen.slug


def test_model_with_the_role_goes_before_one_with_the_fallback_role() -> None:
    coder = Candidate("coder", ("coder",), is_loaded=False)
    primary = Candidate("primary", ("primary",), is_loaded=True)
    assert _chosen(ROUTES["code"], primary, coder) == "coder"
    assert _chosen(ROUTES["code"], primary) == "primary"
    assert _chosen(ROUTES["document"], primary, coder) is None


def test_loaded_model_goes_first_then_foremost_role_then_name() -> None:
    side = Candidate("a", ("primary", "coder"), is_loaded=False)
    foremost = Candidate("b", ("coder", "primary"), is_loaded=False)
    loaded = Candidate("c", ("primary", "thinker", "coder"), is_loaded=True)
    same = Candidate("d", ("coder",), is_loaded=False)
    assert _chosen(ROUTES["code"], side, foremost, loaded, same) == "c"
    assert _chosen(ROUTES["code"], same, side, foremost) == "b"


def test_no_fallback_role_means_any_model() -> None:
    fast = Candidate("fast", ("fast",), is_loaded=False)
    bare = Candidate("bare", (), is_loaded=True)
    assert _chosen(ROUTES["default"], fast, bare) == "bare"
    assert _chosen(ROUTES["default"]) is None


@pytest.mark.parametrize(
    ("mode", "roles"),
    [
        ("single", ["generator"]),
        ("critique", ["generator", "critic"]),
        ("critique", ["generator", "critic", "reviser"]),
        ("debate", ["debater", "debater", "reconciler"]),
        ("ensemble", ["generator", "generator", "synthesiser"]),
        ("pipeline", ["drafter", "refiner", "validator"]),
    ],
)
def test_members_that_can_run_have_no_fault(mode: str, roles: list[str]) -> None:
    assert member_faults(mode, read_settings(mode, {}), roles) == []


@pytest.mark.parametrize(
    ("mode", "roles", "fault"),
    [
        ("single", [], "single needs at least 1 members, not 0"),
        ("single", ["generator", "generator"], "single has one generator, not 2"),
        ("critique", ["generator", "debater"], "critique needs a critic"),
        ("critique", ["generator", "critic", "debater"], "critique has no debater"),
        ("debate", ["debater"], "debate needs at least 2 members, not 1"),
        ("debate", ["debater", "reconciler", "reconciler"], "debate has one reconciler, not 2"),
        ("pipeline", ["drafter", "validator"], "3 stages are named for 2 members"),
    ],
)
def test_members_that_cannot_run_say_why(mode: str, roles: list[str], fault: str) -> None:
    assert fault in member_faults(mode, read_settings(mode, {}), roles)


def _spec(key: str) -> ModelSpec:
    return ModelSpec(key.partition("@")[0], key, "text_generation", "/m", "", 8, 8, 1)


@pytest.mark.parametrize(
    ("draw", "key"),
    [(0.0, "m@b"), (0.0999, "m@b"), (0.1, "m@c"), (0.2999, "m@c"), (0.3, "m@a"), (0.999, "m@a")],
)
def test_canaries_get_their_share_of_the_draws(draw: float, key: str) -> None:
    offer = Offer(_spec("m@a"), ((10, _spec("m@b")), (20, _spec("m@c"))))
    assert offer.pick(draw).version_key == key


def test_offer_without_canaries_is_the_version() -> None:
    assert Offer(_spec("m@a")).pick(0.0).version_key == "m@a"


MODELS = [
    Candidate("gen", ("primary",), is_loaded=False),
    Candidate("fast", ("fast",), is_loaded=True),
    Candidate("coder", ("coder",), is_loaded=False),
    Candidate("mind", ("thinker", "primary"), is_loaded=False),
    Candidate("old", ("thinker", "coder", "primary"), is_loaded=True, is_deprecated=True),
]
ROLES_OF = {
    "critic": ["thinker"],
    "debater": ["coder", "longctx", "primary", "thinker"],
    "drafter": ["fast"],
    "refiner": ["coder"],
    "validator": ["primary"],
}


@pytest.mark.parametrize(
    ("mode", "values", "first", "slugs", "expected"),
    [
        ("critique", {}, "gen", "*", "gen generator, mind critic"),
        ("critique", {}, "mind", "*", "mind generator, mind critic"),
        ("critique", {}, "gen", "gen coder", "gen generator, gen critic"),
        ("debate", {}, "gen", "*", "gen debater, mind debater, coder debater"),
        ("debate", {}, "coder", "*", "coder debater, mind debater, gen debater"),
        ("debate", {}, "gen", "gen fast coder", "gen debater, coder debater"),
        ("debate", {}, "gen", "gen fast", "gen debater, gen debater"),
        ("ensemble", {}, "gen", "*", "gen generator, fast generator, coder generator"),
        ("ensemble", {}, "gen", "gen mind", "gen generator, mind generator"),
        ("ensemble", {}, "gen", "gen", "gen generator, gen generator, gen generator"),
        ("pipeline", {}, "fast", "*", "fast drafter, coder refiner, gen validator"),
        ("pipeline", {}, "gen", "gen", "gen drafter, gen refiner, gen validator"),
        (
            "pipeline",
            {"stages": ["outline", "code", "polish"]},
            "fast",
            "*",
            "fast refiner, coder refiner, coder refiner",
        ),
    ],
)
def test_parts_without_a_preset_go_to_models_by_their_roles(
    mode: str, values: dict, first: str, slugs: str, expected: str
) -> None:
    models = [model for model in MODELS if slugs == "*" or model.slug in slugs.split()]
    parts = choose_parts(read_settings(mode, values), first, models, ROLES_OF)
    assert ", ".join(f"{slug} {part}" for part, slug in parts) == expected
