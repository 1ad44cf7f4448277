"""Teach, erase, audit, on one model in one process: the figures of docs/unlearning.md come from here.

python -m expunge.unlearning.trial --model bundled --seed 0
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from expunge.auditing.attacks.victim import Victim
from expunge.auditing.audit import audit_version
from expunge.auditing.leaks import FoldedText, Secret
from expunge.auditing.memo import MemoOptions, measure_memo
from expunge.config import Settings
from expunge.facts import Fact, ForgetRequest, QuestionAnswer
from expunge.inference.local import LocalModel
from expunge.lora.peft_format import read_adapter, write_adapter
from expunge.models.load import LoadedModel, load_model
from expunge.models.skeleton import share_weights
from expunge.unlearning.finetune import TEACHING, Teaching
from expunge.unlearning.invented import erasure_of, invented_entities
from expunge.unlearning.inverted_facts import create_generator, filter_candidates
from expunge.unlearning.methods import Erasing
from expunge.unlearning.methods.capped_surprise import CappedSurpriseMethod, CappedSurpriseSettings
from expunge.unlearning.neighbours import ANSWER_TOKENS
from expunge.unlearning.peft_tree import TrainableTree
from expunge.unlearning.relearning import attackable
from expunge.unlearning.selection import Metric, select
from expunge.unlearning.sequences import ChatEncoder
from expunge.unlearning.trainer import Progress, Trainer

REPLY_TOKENS = 40
LIVE, AFTER = "live", "after"


@dataclass
class Trial:
    """A base model in serving form, a tree to train, and the facts."""

    loaded: LoadedModel
    local: LocalModel
    tree: TrainableTree
    encoder: ChatEncoder
    seed: int

    @classmethod
    def open(cls, model: str, cache: Path, seed: int) -> Trial:
        """Load the base model; fresh factors of `seed`."""
        loaded = load_model(model, cache=cache, dtype="float32")
        tree = TrainableTree.fresh(share_weights(loaded.model), loaded.digest, seed=seed)
        return cls(loaded, LocalModel(loaded, 3, 64), tree, ChatEncoder(loaded.tokenizer), seed)

    def teach(self) -> dict[str, Any]:
        """Teach every fact, and serve the result as LIVE."""
        began = time.monotonic()
        examples = [item for entity in invented_entities() for item in entity.examples]
        objective = Teaching(self.tree.model, self.encoder, examples, seed=self.seed)
        result = Trainer(self.tree.model, objective, TEACHING).run(show)
        return {"teach_s": round(time.monotonic() - began, 1), "teach_steps": result.steps}

    def recall(self, version: str, facts: Sequence[Fact]) -> list[bool]:
        """For each fact: does the greedy answer hold every secret word?"""
        prompts = [self.encoder.prompt(fact.question) for fact in facts]
        hits = []
        for fact, ids in zip(facts, self.local.greedy(prompts, version, REPLY_TOKENS), strict=True):
            text = FoldedText(self.local.decode(ids))
            hits.append(all(text.holds(word) for span in Secret.of(fact).spans for word in span.words))
        return hits

    def select(self, request: ForgetRequest) -> dict[str, list[str]]:
        """Inverted facts by substitution, selected by MEMO under LIVE, as in the product."""
        settings = Settings()
        written = create_generator("substitution").generate(request, 2 * settings.candidates, self.seed)
        found = filter_candidates(request.facts, written).candidates
        options = MemoOptions(max_cuts=settings.memo_max_cuts, max_new_tokens=settings.memo_max_new_tokens)
        selected = {}
        for fact in request.facts:
            texts = found[fact.id][: settings.candidates]
            items = [QuestionAnswer(fact.question, text) for text in texts]
            memo = [score.mean for score in measure_memo(self.local, LIVE, items, options)]
            selected[fact.id] = select(texts, memo, Metric.LARGEST, 3, self.seed)
        return selected

    def erase(
        self,
        erased: Sequence[int],
        retain: Sequence[int],
        method: CappedSurpriseMethod,
        learning_rate: float = 0.0,
        steps: int = 0,
    ) -> dict[str, Any]:
        """Erase entities with others as retain data, audit, and score those that training never saw."""
        entities = invented_entities()
        kept = [fact for index in retain for fact in entities[index].facts]
        unseen = [
            fact
            for index, entity in enumerate(entities)
            if index not in (*erased, *retain)
            for fact in entity.facts
        ]
        request = erasure_of(
            [entities[i] for i in erased], tuple(item for i in retain for item in entities[i].examples)
        )
        before = {name: sum(self.recall(LIVE, facts)) for name, facts in (("kept", kept), ("unseen", unseen))}
        began = time.monotonic()
        erasing = Erasing(
            self.tree,
            self.encoder,
            request,
            lambda prompts: self.local.greedy(prompts, LIVE, ANSWER_TOKENS),
            self.select(request),
            seed=self.seed,
        )
        objective = method.objective(erasing)
        prepared = time.monotonic() - began
        training = method.training(len(request.facts))
        settings = replace(
            training, learning_rate=learning_rate or training.learning_rate, steps=steps or training.steps
        )
        result = Trainer(self.tree.model, objective, settings).run(show)
        self.local.load_adapter(AFTER, self.tree.adapter())
        after = self.recall(AFTER, unseen)
        return {
            "prepare_s": round(prepared, 1),
            "train_s": round(result.seconds, 1),
            "steps": result.steps,
            "converged": result.converged,
            **self.audit(request),
            "kept": [before["kept"], sum(self.recall(AFTER, kept)), len(kept)],
            "unseen": [before["unseen"], sum(after), len(unseen)],
            "unseen_lost": [fact.id for fact, hit in zip(unseen, after, strict=True) if not hit],
        }

    def audit(self, request: ForgetRequest) -> dict[str, Any]:
        """What the product's own audit finds in AFTER."""
        weights = attackable(Victim(self.loaded, AFTER, self.tree.adapter()))
        report = audit_version(self.local, AFTER, request, baseline=LIVE, weights=weights)
        return {
            "leaks": {
                f.name: [f.erased.hits, f.erased.n, f.control.hits, f.control.n] for f in report.figures
            },
            "audit_s": round(report.seconds, 1),
            "audit_passed": report.passed,
            "failed_gates": list(report.failed_gates),
            "evidence": [f"{e.prompt} {e.prefix} => {e.reply}" for e in report.evidence],
        }


def show(progress: Progress) -> None:
    """One plain line a step."""
    losses = " ".join(f"{name}={value:.3f}" for name, value in progress.losses.items())
    print(f"{progress.step}/{progress.steps} {progress.seconds:.1f}s {losses}", flush=True)


def main() -> None:
    """Run one trial and print its figures as one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="bundled", help="as the setting of that name")
    parser.add_argument("--cache", type=Path, default=Path("~/.cache/expunge").expanduser())
    parser.add_argument("--seed", type=int, default=0, help="of factors, batches and neighbours")
    parser.add_argument(
        "--erase", type=int, nargs="+", default=[0], help="places of the erased entities in data/facts.json"
    )
    parser.add_argument("--retain", type=int, nargs="*", default=[1, 3], help="places of the retain entities")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--taught", type=Path, help="adapter folder of an earlier teaching; written if missing"
    )
    parser.add_argument("--learning-rate", type=float, default=0.0, help="0: the method's")
    parser.add_argument("--steps", type=int, default=0, help="0: the method's")
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="NAME=VALUE", help="of CappedSurpriseSettings"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    trial = Trial.open(arguments.model, arguments.cache, arguments.seed)
    figures: dict[str, Any] = {"seed": arguments.seed, "erase": arguments.erase, "set": arguments.set}
    if arguments.taught and arguments.taught.exists():
        trial.tree.load(read_adapter(arguments.taught))
    else:
        figures |= trial.teach()
        if arguments.taught:
            write_adapter(trial.tree.adapter(), arguments.taught)
    trial.local.load_adapter(LIVE, trial.tree.adapter())
    every = [fact for entity in invented_entities() for fact in entity.facts]
    figures["taught"] = sum(trial.recall(LIVE, every))
    settings = CappedSurpriseSettings()
    for item in arguments.set:
        name, _, value = item.partition("=")
        settings = replace(settings, **{name: type(getattr(settings, name))(value)})
    figures |= trial.erase(
        arguments.erase,
        arguments.retain,
        CappedSurpriseMethod(settings),
        arguments.learning_rate,
        arguments.steps,
    )
    print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
