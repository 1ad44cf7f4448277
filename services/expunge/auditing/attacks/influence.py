"""Which training facts speak for an erased answer: similarity of gradients over the adapter's factors.

    influence(z, e) = cos(∇L(z), ∇L(e)),   L the mean cross-entropy of an answer's tokens

One checkpoint of TracIn (Pruthi et al., arXiv 2002.08484) with gradients of length one, taken over LoRA
factors as in LESS (Xia et al., arXiv 2402.04333), there with Adam's preconditioning, here without. A small
step on z lowers the loss of e where the influence is positive. Length one, since an answer known by heart has
a gradient close to zero and would hide behind every other.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from expunge.auditing.attacks.victim import FactoredModel, Victim
from expunge.errors import InvalidRequest

Pair = tuple[Sequence[int], Sequence[int]]  # prompt ids, answer ids


def gradient_similarity(victim: Victim, training: Sequence[Pair], erased: Sequence[Pair]) -> Tensor:
    """Influence of every training answer on every erased one, [training, erased], each within [−1, 1].

    Keeps one gradient (the adapter's size in fp32) for every erased answer.

    Raises:
        InvalidRequest: the version has no factors, or an answer has no tokens.
    """
    if victim.adapter is None:
        raise InvalidRequest.of(
            "version", f"{victim.version} has no adapter whose gradients could be compared"
        )
    for name, pairs in (("training", training), ("erased", erased)):
        for index, (prompt, answer) in enumerate(pairs):
            if not prompt or not answer:
                raise InvalidRequest.of(f"{name}[{index}]", "needs a prompt and an answer")
    factored = victim.factored()
    against = torch.stack([_direction(victim, factored, pair) for pair in erased])  # [erased, numbers]
    return torch.stack([against @ _direction(victim, factored, pair) for pair in training])


def _direction(victim: Victim, factored: FactoredModel, pair: Pair) -> Tensor:
    """The gradient of one answer's loss over all factors, of length 1, [numbers] fp32."""
    if victim.threads:
        victim.threads.adjust()
    prompt, answer = pair
    tokens = torch.tensor([[*prompt, *answer]], device=factored.model.device)
    with torch.enable_grad():
        hidden = factored.model.get_decoder()(input_ids=tokens[:, :-1], use_cache=False).last_hidden_state
        logits = factored.model.get_output_embeddings()(hidden[0, len(prompt) - 1 :]).float()
        loss = torch.nn.functional.cross_entropy(logits, tokens[0, len(prompt) :])
    gradients = torch.autograd.grad(loss, factored.tensors)
    whole = torch.cat([gradient.float().flatten() for gradient in gradients]).cpu()
    return torch.nn.functional.normalize(whole, dim=0)
