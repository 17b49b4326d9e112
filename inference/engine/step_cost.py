"""Estimate how long a step takes, from the steps measured so far."""

from bisect import bisect_right

# Prior: each further token costs this share of the first token's time. It is small, so that larger
# steps are tried and measured.
FIRST_SHARE = 0.05
# The prior counts as much as one step that had one token more or less than the average.
FIRST_WEIGHT = 1.0
# A step this long ago counts 1/e. The line is a property of model and machine and is kept long; the
# machine's present pace is not. While all steps have one token nothing is learnt about the price of
# more, and what was learnt before must not be forgotten.
LINE_MEMORY_STEPS = 10_000
LEVEL_MEMORY_STEPS = 200
# Early on the line's memory is this share of all steps, so that unusual first steps soon count
# little.
EARLY_MEMORY_SHARE = 0.5
MIN_MEMORY_STEPS = 30
# A step may count as at most this many times longer or shorter than expected: a step that was held
# up by other processes says little about the next.
MAX_SURPRISE = 4.0

# A clock may not advance during a short step, and ratios of times must not divide by zero.
MIN_SECONDS = 1e-9


class StepCost:
    """Seconds as a least-squares line over tokens, times the machine's present pace."""

    def __init__(self) -> None:
        self._pace = 1.0
        self._steps = 0
        self._weight = 0.0
        self._mean_tokens = 1.0
        self._mean_seconds = 1.0
        self._variance = 0.0
        self._covariance = 0.0

    @property
    def is_known(self) -> bool:
        return bool(self._weight)

    def observe(self, tokens: int, seconds: float) -> None:
        seconds = max(seconds, MIN_SECONDS)
        if self._weight:
            expected = self.seconds(tokens)
            seconds = max(expected / MAX_SURPRISE, min(seconds, expected * MAX_SURPRISE))
            self._pace *= 1 + (seconds / expected - 1) / LEVEL_MEMORY_STEPS
        self._steps += 1
        memory = min(max(MIN_MEMORY_STEPS, EARLY_MEMORY_SHARE * self._steps), LINE_MEMORY_STEPS)
        self._weight = (1 - 1 / memory) * self._weight + 1
        share = 1 / self._weight
        tokens_off = tokens - self._mean_tokens
        seconds_off = seconds / self._pace - self._mean_seconds
        # West's running mean and covariance: https://doi.org/10.1145/359146.359153
        self._mean_tokens += share * tokens_off
        self._mean_seconds += share * seconds_off
        self._variance = (1 - share) * (self._variance + share * tokens_off**2)
        self._covariance = (1 - share) * (self._covariance + share * tokens_off * seconds_off)

    def seconds(self, tokens: int) -> float:
        """Expected seconds of a step; before the first measurement only ratios are meaningful."""
        first_slope = FIRST_SHARE * self._mean_seconds / (1 + FIRST_SHARE * (self._mean_tokens - 1))
        weight = FIRST_WEIGHT / max(self._weight, 1.0)
        slope = (self._covariance + weight * first_slope) / (self._variance + weight)
        # Measurements are noisy: more tokens never take less time, and zero tokens none below zero.
        slope = max(0.0, min(slope, self._mean_seconds / self._mean_tokens))
        return self._pace * (self._mean_seconds + slope * (tokens - self._mean_tokens))

    def tokens_within(self, seconds: float, limit: int) -> int | None:
        """The most tokens of a step of ``seconds``; None while all steps had the same number."""
        if not self._variance:
            return None
        return bisect_right(range(1, limit + 1), seconds, key=self.seconds)


class StepCosts:
    """Tokens with an output and prompt tokens without one have different costs."""

    def __init__(self) -> None:
        # A token of an answer also goes through the output matrix, which for a small model takes
        # longer than all its layers.
        self.answers = StepCost()
        self._prompts = StepCost()

    def observe(self, answer_tokens: int, prompt_tokens: int, seconds: float) -> None:
        if not prompt_tokens:
            self.answers.observe(answer_tokens, seconds)
        else:
            known = answer_tokens and self.answers.is_known
            base = self.answers.seconds(answer_tokens) if known else 0.0
            self._prompts.observe(prompt_tokens, max(seconds - base, MIN_SECONDS))

    def prompt_tokens_within(self, answer_tokens: int, slowdown: float, limit: int) -> int | None:
        """Prompt tokens that keep a step within ``slowdown`` times its time; None: unknown."""
        if not self.answers.is_known:
            return None
        return self._prompts.tokens_within(
            self.answers.seconds(answer_tokens) * (slowdown - 1), limit
        )
