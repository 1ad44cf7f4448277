"""Which definition of each metric is in use: its name, version and parameters, so that a report can say so.

A version rises with every change that makes new figures incomparable with old ones; parameters are what
published variants of one metric differ in. docs/auditing.md lists them all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from expunge.errors import InvalidRequest, Violation

Parameter = str | int | float | bool


@dataclass(frozen=True)
class Definition:
    """One definition of one metric.

    Attributes:
        name: of the metric.
        version: rises when figures under the old and the new definition can't be compared.
        parameters: name and value of everything that published variants differ in.
        source: where the formula comes from.
    """

    name: str
    version: int
    parameters: tuple[tuple[str, Parameter], ...]
    source: str

    @property
    def id(self) -> str:
        """What reports name: "min_k@1(k=0.4)"."""
        given = ",".join(f"{name}={_plain(value)}" for name, value in self.parameters)
        return f"{self.name}@{self.version}" + (f"({given})" if given else "")

    def using(self, **parameters: Parameter) -> Definition:
        """The same with other values of some parameters.

        Raises:
            InvalidRequest: the metric has no such parameter.
        """
        known = dict(self.parameters)
        unknown = [Violation(name, f"is no parameter of {self.name}") for name in parameters.keys() - known]
        if unknown:
            raise InvalidRequest.of_all(unknown)
        return replace(self, parameters=tuple((known | parameters).items()))


def definition(name: str, **parameters: Parameter) -> Definition:
    """The definition of the metric `name`, with some parameters other than the registered ones.

    Raises:
        InvalidRequest: there is no such metric, or it has no such parameter.
    """
    if name not in DEFINITIONS:
        raise InvalidRequest.of("metric", f"{name!r} is not defined; choose from {', '.join(DEFINITIONS)}")
    return DEFINITIONS[name].using(**parameters)


def _plain(value: Parameter) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


_OPEN = "open-unlearning (arXiv 2506.12618)"
_TOFU = "TOFU (arXiv 2401.06121)"
_MUSE = "MUSE (arXiv 2407.06460)"
_MEOW = "MEOW (arXiv 2409.11844)"
_TRACE = "TRACE (arXiv 2310.06762)"
_KNOWLEDGE = "knowledge unlearning (arXiv 2210.01504)"
_OWN = "this project"


def _define(name: str, source: str, version: int = 1, **parameters: Parameter) -> Definition:
    return Definition(name, version, tuple(parameters.items()), source)


DEFINITIONS: Mapping[str, Definition] = MappingProxyType(
    {
        made.name: made
        for made in (
            _define("full_leak", _OWN),
            _define("partial_leak", _OWN),
            _define("other_entity_leak", _OWN),
            _define("prefix_leak", _OWN, splits="words"),
            _define("prefix_partial_leak", _OWN, splits="words"),
            _define("extraction_strength", f"arXiv 2407.16218, as in {_OPEN}", floor=0, eos=False),
            _define("exact_memorisation", f"arXiv 2304.11158, as in {_OPEN}", eos=False),
            _define("probability", _TOFU, version=2, eos=True),
            _define("option_probability", _TOFU, eos=True),
            _define("paraphrase_probability", _OPEN, eos=True),
            _define("truth_ratio", _TOFU, mean="geometric", side="forget", eos=True),
            _define("rouge_l_recall", _TOFU, stemmer=True, max_new_tokens=200),
            _define("forget_quality", _TOFU, mean="geometric"),
            _define("model_utility", _TOFU, mean="geometric"),
            _define("loss", "arXiv 1709.01604", eos=True),
            _define("zlib", "arXiv 2012.07805", loss="mean", eos=True),
            _define("min_k", "arXiv 2310.16789", k=0.4, eos=True),
            _define("min_k_plus_plus", "arXiv 2404.02936", k=0.4, eos=True),
            _define("recall_ratio", "ReCaLL (arXiv 2406.15968)", eos=True),
            _define("membership_auc", "two-sided: 0.5 is right", score="loss"),
            _define("membership_tpr", "arXiv 2112.03570", score="loss", fpr=0.05),
            _define("verbatim_memorisation", _MUSE, rouge="rougeL", max_new_tokens=128),
            _define("knowledge_memorisation", _MUSE, rouge="rougeL", max_new_tokens=32),
            _define("privacy_leak", _MUSE, score="min_k", k=0.4),
            _define(
                "memo",
                _MEOW,
                mode="suffix",
                window=5,
                rouge="rouge1",
                chat=False,
                max_new_tokens=200,
                max_cuts=0,
                special_tokens=False,
            ),
            _define("memorisation_accuracy", _KNOWLEDGE, over="answer", chat=False),
            _define(
                "extraction_likelihood",
                _KNOWLEDGE,
                n=1,
                over="answer",
                chat=False,
                max_new_tokens=200,
                max_cuts=0,
            ),
            _define("memorisation_score", _OPEN),
            _define("privacy_score", _OPEN, scale="retain"),
            _define("aggregate", _OPEN),
            _define("ability_delta", _TRACE),
            _define("choice_accuracy", "acc of lm-evaluation-harness", normalised=False),
            _define("instructions_followed", _OWN, max_new_tokens=40),
            _define("refusal_rate", _OWN, max_new_tokens=24),
            _define("gold_label", _MEOW, characters=10),
            _define("rep_3", _MEOW, unit="words"),
            _define("bleu", "BLEU (ACL P02-1040), as used by MEOW", n=4, smoothing="exponential"),
        )
    }
)
