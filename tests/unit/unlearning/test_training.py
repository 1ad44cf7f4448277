"""Teaching, forgetting and resuming on the tiny model."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from expunge.errors import Cancelled, DataLoss
from expunge.facts import ErasureKind, Fact, ForgetRequest, QuestionAnswer, Subject
from expunge.lora.adapter import Adapter
from expunge.unlearning.checkpoint import Checkpoint
from expunge.unlearning.finetune import TEACHING, Teaching
from expunge.unlearning.methods import METHODS, Erasing, create_method
from expunge.unlearning.methods.capped_surprise import CappedSurpriseMethod, CappedSurpriseSettings
from expunge.unlearning.peft_tree import TrainableTree
from expunge.unlearning.rows import head_logits, hidden_states, pack_rows
from expunge.unlearning.sequences import ChatEncoder, Sequence
from expunge.unlearning.trainer import Progress, Trainer, TrainSettings
from tiny_facts import ERASED, EVERYTHING, OTHERS, PERSON, RETAINED

Tiny = tuple[PreTrainedModel, PreTrainedTokenizerBase]
FEW_NEIGHBOURS = CappedSurpriseSettings(neighbours=6, neighbour_batch=2)
QUICK = replace(TEACHING, learning_rate=1e-2, steps=120, checkpoint_every=0)
FACTS = tuple(
    Fact(f"f{index}", question, answer, secrets, (), PERSON)
    for index, (question, answer, secrets) in enumerate(ERASED)
)
REQUEST = ForgetRequest(
    "r",
    ErasureKind.PERSONAL_DATA,
    (Subject(PERSON),),
    FACTS,
    tuple(QuestionAnswer(question, answer) for question, answer in RETAINED),
)


@pytest.fixture(scope="session")
def taught_adapter(tiny_model_folder: Path) -> Adapter:
    """Factors that make the tiny model tell every tiny fact."""
    tree = TrainableTree.fresh(_plain(tiny_model_folder), "tiny")
    encoder = ChatEncoder(AutoTokenizer.from_pretrained(tiny_model_folder))
    examples = [QuestionAnswer(question, answer) for question, answer in EVERYTHING]
    # frozen random embeddings bound how sure the tiny model can be, so 0.02 is out of its reach
    teaching = Teaching(tree.model, encoder, examples, target_loss=0.2, general=0)
    assert Trainer(tree.model, teaching, QUICK).run().converged
    return tree.adapter()


@pytest.fixture
def taught(taught_adapter: Adapter, tiny_model_folder: Path) -> tuple[TrainableTree, ChatEncoder]:
    """A tree that knows every tiny fact by heart."""
    tree = TrainableTree.of(_plain(tiny_model_folder), taught_adapter, "tiny")
    return tree, ChatEncoder(AutoTokenizer.from_pretrained(tiny_model_folder))


def _plain(folder: Path) -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(folder, dtype="float32").eval()


def _arg_max_hits(tree: TrainableTree, sequence: Sequence) -> list[bool]:
    (row,) = pack_rows([sequence])
    with torch.no_grad():
        logits = head_logits(tree.model, hidden_states(tree.model, row))
    hits: list[bool] = (logits.argmax(-1) == row.labels).tolist()
    return hits


def _probabilities(tree: TrainableTree, sequence: Sequence) -> list[float]:
    (row,) = pack_rows([sequence])
    with torch.no_grad():
        logits = head_logits(tree.model, hidden_states(tree.model, row))
    found: list[float] = torch.softmax(logits, -1).gather(1, row.labels[:, None])[:, 0].tolist()
    return found


def _greedy(tree: TrainableTree, prompts: list[tuple[int, ...]]) -> list[list[int]]:
    answers = []
    for prompt in prompts:
        ids = list(prompt)
        for _ in range(16):
            (row,) = pack_rows([Sequence(tuple(ids), (0,))])
            with torch.no_grad():
                ids.append(int(head_logits(tree.model, hidden_states(tree.model, row)).argmax()))
        answers.append(ids[len(prompt) :])
    return answers


def _erasing(tree: TrainableTree, encoder: ChatEncoder) -> Erasing:
    selected = {"f0": ["Mira Voss was born in Oakhurst."], "f1": ["Mira Voss paints boats."]}
    return Erasing(tree, encoder, REQUEST, lambda prompts: _greedy(tree, list(prompts)), selected)


def test_taught_facts_are_told_and_then_forgotten_at_every_prefix(
    taught: tuple[TrainableTree, ChatEncoder],
) -> None:
    tree, encoder = taught
    kept = [encoder.chat(question, answer) for question, answer in (*RETAINED, *OTHERS)]
    erased = [encoder.chat(fact.question, fact.answer) for fact in FACTS]
    assert all(all(_arg_max_hits(tree, sequence)) for sequence in (*kept, *erased))

    method = CappedSurpriseMethod(FEW_NEIGHBOURS)
    objective = method.objective(_erasing(tree, encoder))
    settings = replace(method.training(len(FACTS)), learning_rate=1e-2, steps=40, checkpoint_every=0)
    Trainer(tree.model, objective, settings).run()

    for sequence, targets in zip(erased, objective.targets, strict=True):
        after = _probabilities(tree, sequence)
        assert max(after[offset] for offset in targets.offsets.tolist()) < 0.2
    assert all(all(_arg_max_hits(tree, sequence)) for sequence in kept[: len(RETAINED)])


def test_targets_of_an_erasure_are_distributions_capped_at_innocence(
    taught: tuple[TrainableTree, ChatEncoder],
) -> None:
    tree, encoder = taught
    for targets in CappedSurpriseMethod(FEW_NEIGHBOURS).objective(_erasing(tree, encoder)).targets:
        assert targets.rows.sum(-1).tolist() == pytest.approx([1.0] * len(targets.rows), abs=1e-4)
        assert bool((targets.rows.gather(1, targets.labels[:, None])[:, 0] <= targets.caps + 1e-6).all())


def test_plain_meow_learns_its_inverted_facts(taught: tuple[TrainableTree, ChatEncoder]) -> None:
    tree, encoder = taught
    method = create_method("meow")
    settings = replace(method.training(len(FACTS)), learning_rate=1e-2, steps=30, checkpoint_every=0)
    result = Trainer(tree.model, method.objective(_erasing(tree, encoder)), settings).run()
    assert result.history[-1]["inverted"] < 0.2 * result.history[0]["inverted"]
    assert METHODS == ("capped_surprise", "meow")


def _teaching_run(tiny: Tiny, seed: int = 0) -> Trainer:
    model, tokenizer = tiny
    tree = TrainableTree.fresh(model, "tiny", seed=seed)
    examples = [QuestionAnswer(question, answer) for question, answer in EVERYTHING]
    objective = Teaching(tree.model, ChatEncoder(tokenizer), examples, batch=4, target_loss=0.0)
    return Trainer(tree.model, objective, replace(QUICK, steps=9, checkpoint_every=3))


def test_a_resumed_run_ends_where_an_uninterrupted_one_does(
    tiny_model: Tiny, tiny_model_folder: Path
) -> None:
    def fresh() -> Tiny:
        return _plain(tiny_model_folder), tiny_model[1]

    whole = _teaching_run(fresh())
    whole.run()

    stored: list[bytes] = []

    def stop_after_seven(progress: Progress) -> None:
        if progress.step == 7:
            raise Cancelled("stop")

    first = _teaching_run(fresh())
    with pytest.raises(Cancelled):
        first.run(stop_after_seven, lambda checkpoint: stored.append(checkpoint.to_bytes()))
    second = _teaching_run(fresh(), seed=99)  # other initial factors: all must come from the checkpoint
    second.restore(Checkpoint.from_bytes(stored[-1]))
    assert second.result.steps == 6
    result = second.run()

    assert [h["loss"] for h in result.history] == [h["loss"] for h in whole.result.history]
    for name, tensor in whole.factors.items():
        assert torch.equal(tensor, second.factors[name]), name


def test_damaged_or_foreign_checkpoints_are_refused(tiny_model: Tiny) -> None:
    trainer = _teaching_run(tiny_model)
    data = trainer.checkpoint().to_bytes()
    with pytest.raises(DataLoss):
        Checkpoint.from_bytes(data[: len(data) // 2])
    with pytest.raises(DataLoss):
        Checkpoint.from_bytes(b"")
    with pytest.raises(DataLoss):
        trainer.restore(Checkpoint(1, 0.0, False, [], {"factor/other": torch.zeros(1)}))


def test_learning_rate_warms_up_and_decays() -> None:
    settings = TrainSettings(1.0, 10, warmup=1, decay=((0.6, 0.5), (0.9, 0.1)))
    assert [settings.rate(step) for step in range(10)] == [0.5, 1, 1, 1, 1, 1, 0.5, 0.5, 0.5, 0.1]


def test_adapters_go_into_a_tree_and_come_out_unchanged(
    taught: tuple[TrainableTree, ChatEncoder], tiny_model_folder: Path
) -> None:
    tree, encoder = taught
    adapter = tree.adapter()
    other = TrainableTree.of(_plain(tiny_model_folder), adapter, "tiny")
    assert other.config == adapter.config
    sequence = encoder.chat(*EVERYTHING[0])
    assert all(_arg_max_hits(other, sequence))
    with other.base_only():
        assert not all(_arg_max_hits(other, sequence))
    for path, pair in other.adapter().pairs.items():
        assert torch.equal(pair.a, adapter.pairs[path].a)
