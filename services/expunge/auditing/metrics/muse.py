"""MUSE's three figures of forgetting (arXiv 2407.06460): verbatim, of knowledge, of membership."""

from __future__ import annotations

from collections.abc import Sequence

from expunge.auditing.metrics.definitions import definition
from expunge.auditing.metrics.estimate import Estimate
from expunge.auditing.metrics.rouge import rouge_l_f1s
from expunge.errors import InvalidRequest

VERBATIM_NEW_TOKENS = 128
KNOWLEDGE_NEW_TOKENS = 32


def verbatim_memorisation(texts: Sequence[str], continuations: Sequence[str]) -> Estimate:
    """VerbMem: mean ROUGE-L F1 of greedy continuations of at most 128 tokens against the true text.

    Raises:
        InvalidRequest: no texts, or one that ROUGE can't read.
    """
    return Estimate.of_share(rouge_l_f1s(texts, continuations), definition("verbatim_memorisation"))


def knowledge_memorisation(answers: Sequence[str], replies: Sequence[str]) -> Estimate:
    """KnowMem: mean ROUGE-L F1 of greedy few-shot replies of at most 32 tokens against the answers.

    Raises:
        InvalidRequest: no answers, or one that ROUGE can't read.
    """
    return Estimate.of_share(rouge_l_f1s(answers, replies), definition("knowledge_memorisation"))


def privacy_leak(auc: float, retained_auc: float) -> float:
    """PrivLeak = 100·((1 − A) − (1 − A_ret))/(1 − A_ret), A the AUC of the Min-40% scores.

    Two-sided: 0 is right. As A is the AUC of members against others here, higher for members, a version that
    still knows is below 0, an over-unlearned one above it.

    Args:
        auc, retained_auc: of the version, and of a model that never saw the forget set.

    Raises:
        InvalidRequest: an AUC outside [0, 1], or A_ret = 1, which leaves nothing to compare with.
    """
    for name, value in (("auc", auc), ("retained_auc", retained_auc)):
        if not 0 <= value <= 1:
            raise InvalidRequest.of(name, f"must be in [0, 1], is {value}")
    if retained_auc == 1:
        raise InvalidRequest.of("retained_auc", "is 1: the retain-only model tells members already")
    return 100 * ((1 - auc) - (1 - retained_auc)) / (1 - retained_auc)
