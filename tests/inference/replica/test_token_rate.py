"""How many tokens a second a host tells that it generates."""

from inference.replica.token_rate import TokenRate


def test_rate_is_that_since_the_last_reading() -> None:
    rate = TokenRate()
    assert rate.update(10.0, 100) == 0.0
    assert rate.update(12.0, 150) == 25.0
    assert rate.update(13.0, 150) == 0.0


def test_two_readings_at_one_moment_tell_nothing() -> None:
    rate = TokenRate()
    rate.update(10.0, 100)
    assert rate.update(10.0, 200) == 0.0
