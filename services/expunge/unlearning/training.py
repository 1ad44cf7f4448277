"""Training jobs: teach facts, and make the live version forget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from expunge.errors import AlreadyExists, InvalidRequest
from expunge.registry.records import VersionRecord
from expunge.unlearning.finetune import TEACHING, Teaching
from expunge.unlearning.job_run import JobRun
from expunge.unlearning.jobs import FineTuneSpec, TrainedResult, UnlearnSpec
from expunge.unlearning.methods import Erasing, create_method
from expunge.unlearning.neighbours import ANSWER_TOKENS
from expunge.unlearning.peft_tree import TrainableTree
from expunge.unlearning.publication import store_version
from expunge.unlearning.trainer import Objective, Trainer, TrainSettings
from expunge.unlearning.workbench import Workbench


def fine_tune(bench: Workbench, run: JobRun, spec: FineTuneSpec) -> TrainedResult:
    """Teach examples and register the version.

    Raises:
        InvalidRequest: no examples, or an empty question or answer.
    """
    empty = [
        i for i, item in enumerate(spec.examples) if not item.question.strip() or not item.answer.strip()
    ]
    if not spec.examples or empty:
        field = f"examples[{empty[0]}]" if empty else "examples"
        raise InvalidRequest.of(field, "needs a question and an answer")
    parent = run.version(spec.parent) if spec.parent else None
    adapter = bench.versions.ensure(parent) if parent else None
    tree = bench.tree(adapter, rank=spec.rank, alpha=spec.alpha, seed=spec.seed)
    run.report(stage="preparing", step=0, steps=spec.max_steps)
    objective = Teaching(
        tree.model, bench.encoder, spec.examples, target_loss=spec.target_loss, seed=spec.seed
    )
    settings = replace(TEACHING, learning_rate=spec.learning_rate, steps=spec.max_steps)
    trainer = _train(bench, run, tree, objective, settings)
    return _publish(bench, run, tree, trainer, spec.name, parent, "fine_tune")


def unlearn(bench: Workbench, run: JobRun, spec: UnlearnSpec) -> TrainedResult:
    """Make the live version forget an erasure's facts and register what comes out."""
    request = run.request(spec.erasure_id)
    earlier = [fact for erasure_id in spec.floor_erasures for fact in run.request(erasure_id).facts]
    live = run.version(spec.live_version)
    tree = bench.tree(bench.versions.ensure(live), seed=spec.seed)
    method = create_method(spec.method)
    training = method.training(len(request.facts))
    settings = replace(
        training,
        steps=spec.steps or training.steps,
        learning_rate=spec.learning_rate or training.learning_rate,
    )
    run.report(stage="preparing", step=0, steps=settings.steps)
    erasing = Erasing(
        tree=tree,
        encoder=bench.encoder,
        request=request,
        selected=spec.selected,
        earlier=tuple(earlier),
        greedy=bench.greedy(live.id, ANSWER_TOKENS),
        seed=spec.seed,
    )
    trainer = _train(bench, run, tree, method.objective(erasing), settings)
    name = f"erasure-{spec.erasure_id}-r{spec.round}"
    return _publish(bench, run, tree, trainer, name, live, f"erasure:{spec.erasure_id}")


def _train(
    bench: Workbench, run: JobRun, tree: TrainableTree, objective: Objective, settings: TrainSettings
) -> Trainer:
    trainer = Trainer(tree.model, objective, settings)
    run.resume(trainer)
    trainer.run(run.report_step, run.save, bench.threads.adjust)
    return trainer


def _publish(
    bench: Workbench,
    run: JobRun,
    tree: TrainableTree,
    trainer: Trainer,
    name: str,
    parent: VersionRecord | None,
    source: str,
) -> TrainedResult:
    record = store_version(
        tree.adapter(),
        bench.blobs,
        bench.shape,
        name=name,
        parent=parent.id if parent else "",
        source=source,
        max_rank=bench.settings.max_rank,
    )
    registered = _register(run, record)
    result = trainer.result
    return TrainedResult(
        registered.id,
        result.steps,
        round(result.seconds, 3),
        result.history[-1] if result.history else {},
        result.converged,
        _curves(result.history),
    )


def _curves(history: Sequence[Mapping[str, float]]) -> dict[str, list[float]]:
    """Term → its value at each step. A step names its terms, then their sum, then what is not trained on."""
    names = list(history[0]) if history else []
    terms = names[: names.index("loss") + 1] if names else []
    return {name: [round(losses[name], 5) for losses in history] for name in terms}


def _register(run: JobRun, record: VersionRecord) -> VersionRecord:
    """Register a version. One of an erasure gets a longer name where its own is taken.

    A training that is repeated after a crash need not end in the same bits, since sums depend on the number
    of threads; the version of the run before has the name then.

    Raises:
        AlreadyExists: the name was chosen by an operator and belongs to another version.
    """
    try:
        return run.call(run.registry.put_version(record))
    except AlreadyExists:
        if not record.source.startswith("erasure:"):
            raise
        longer = replace(record, name=f"{record.name}-{record.id[:12]}")
        return run.call(run.registry.put_version(longer))
