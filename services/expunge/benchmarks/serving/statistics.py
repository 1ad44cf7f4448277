"""From responses to figures: pure functions, all times in seconds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from expunge.benchmarks.serving.plan import Plan, Response


@dataclass(frozen=True)
class Spread:
    """Median and 99th percentile; NaN where there was nothing to measure."""

    p50: float
    p99: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(percentile(values, 50), percentile(values, 99))


@dataclass(frozen=True)
class Figures:
    """What one load measured.

    Attributes:
        requests, errors: sent, and failed among them.
        first_error: the text of the first failure, "" where there was none.
        seconds: from the first request sent to the last answer's end.
        output_tokens: of answers that did not fail.
        tokens_per_s: output tokens over seconds.
        first_token_s: from sending to the first token.
        inter_token_s: between two tokens of one stream; tokens that arrive together share their gap.
        end_to_end_s: from sending to the end.
        mixed_versions: answers that named more than one version. Must be 0.
        short: answers with fewer tokens than were asked for.
        prompt_tokens: fewest and most of any prompt, as the service counts them; (0, 0) where it does not.
    """

    requests: int
    errors: int
    first_error: str
    seconds: float
    output_tokens: int
    tokens_per_s: float
    first_token_s: Spread
    inter_token_s: Spread
    end_to_end_s: Spread
    mixed_versions: int
    short: int
    prompt_tokens: tuple[int, int]


def percentile(values: Sequence[float], percent: float) -> float:
    """The value below which `percent` of the values lie, linear between the two nearest ranks.

    NaN for no values. As numpy's default method (Hyndman and Fan's type 7).
    """
    if not values:
        return math.nan
    ordered = sorted(values)
    place = (len(ordered) - 1) * percent / 100
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def gaps(arrivals: Iterable[tuple[float, int]]) -> list[float]:
    """Seconds before each token but those that came first.

    Tokens that arrive together share the time since the arrival before evenly.
    """
    found: list[float] = []
    before: float | None = None
    for at, tokens in arrivals:
        if before is not None:
            found += [(at - before) / tokens] * tokens
        before = at
    return found


def figures(plan: Plan, responses: Sequence[Response]) -> Figures:
    """The figures of one load."""
    good = [response for response in responses if not response.error]
    asked = [ask.max_tokens for ask, one in zip(plan.asks, responses, strict=True) if not one.error]
    prompts = [response.prompt_tokens for response in good]
    output = sum(response.tokens for response in good)
    seconds = max(one.done for one in responses) - min(one.sent for one in responses) if responses else 0.0
    return Figures(
        requests=len(responses),
        errors=len(responses) - len(good),
        first_error=next((response.error for response in responses if response.error), ""),
        seconds=seconds,
        output_tokens=output,
        tokens_per_s=output / seconds if seconds else math.nan,
        first_token_s=Spread.of([one.arrivals[0][0] - one.sent for one in good if one.arrivals]),
        inter_token_s=Spread.of([gap for one in good for gap in gaps(one.arrivals)]),
        end_to_end_s=Spread.of([one.done - one.sent for one in good]),
        mixed_versions=sum(len(response.versions) > 1 for response in responses),
        short=sum(response.tokens < most for response, most in zip(good, asked, strict=True)),
        prompt_tokens=(min(prompts, default=0), max(prompts, default=0)),
    )


def ratio(value: float, other: float) -> float:
    """value / other; NaN where that says nothing."""
    return value / other if other and math.isfinite(other) and math.isfinite(value) else math.nan
