"""What a worker does before and beside training: inverted facts, MEMO. It runs in the computing thread."""

from __future__ import annotations

from collections.abc import Sequence

from expunge.auditing.memo import MemoOptions, MemoProfile, measure_memo
from expunge.facts import QuestionAnswer
from expunge.unlearning.inverted_facts import Generator, create_generator, filter_candidates
from expunge.unlearning.job_run import JobRun
from expunge.unlearning.jobs import (
    InvertResult,
    InvertSpec,
    MeasureResult,
    MeasureSpec,
)
from expunge.unlearning.selection import Metric, select
from expunge.unlearning.workbench import Workbench

_SAMPLED_TOKENS = 48
_SPARE = 2  # candidates asked for, for each that is wanted: some do not pass the filter


def invert(bench: Workbench, run: JobRun, spec: InvertSpec) -> InvertResult:
    """Write inverted facts and filter them.

    Every fact gets at least one: where nothing of the generator's passes, substitution steps in.
    """
    request = run.request(spec.erasure_id)
    facts = [fact for fact in request.facts if not spec.fact_ids or fact.id in spec.fact_ids]
    count = spec.count or bench.settings.candidates
    run.report(stage="inverting", step=0, steps=1)
    generator = _generator(bench, run, spec)
    written = filter_candidates(facts, generator.generate(request, count * _SPARE, spec.seed))
    bare = [fact for fact in facts if not written.candidates[fact.id]]
    if bare:
        fallback = create_generator("substitution").generate(request, count * _SPARE, spec.seed)
        written.candidates.update(filter_candidates(bare, fallback).candidates)
    run.report(stage="inverting", step=1, steps=1)
    candidates = {fact_id: texts[:count] for fact_id, texts in written.candidates.items()}
    return InvertResult(candidates, sum(written.dropped.values()))


def _generator(bench: Workbench, run: JobRun, spec: InvertSpec) -> Generator:
    settings = bench.settings
    if settings.generator != "self":
        return create_generator(
            settings.generator, url=settings.generator_url, model=settings.generator_model
        )
    record = run.version(spec.live_version)
    bench.versions.ensure(record)

    def sample(questions: Sequence[str], seed: int) -> list[str]:
        prompts = [bench.model.chat_ids(question) for question in questions]
        replies = bench.model.sample(prompts, record.id, _SAMPLED_TOKENS, temperature=0.9, seed=seed)
        return [bench.model.decode(reply) for reply in replies]

    return create_generator("self", sample=sample)


def measure(bench: Workbench, run: JobRun, spec: MeasureSpec) -> MeasureResult:
    """MEMO of true answers and candidates under the live version, and the selection that follows."""
    request = run.request(spec.erasure_id)
    record = run.version(spec.live_version)
    bench.versions.ensure(record)
    options = MemoOptions(
        max_cuts=bench.settings.memo_max_cuts, max_new_tokens=bench.settings.memo_max_new_tokens
    )
    measured = [fact for fact in request.facts if spec.candidates.get(fact.id)]
    items = [
        QuestionAnswer(fact.question, text)
        for fact in measured
        for text in (fact.answer, *spec.candidates[fact.id])
    ]
    run.report(stage="measuring", step=0, steps=len(items))
    scores = iter(measure_memo(bench.model, record.id, items, options))
    memo, truths, selected = {}, [], {}
    for fact in measured:
        candidates = spec.candidates[fact.id]
        truths.append(next(scores))
        found = [next(scores).mean for _ in candidates]
        memo[fact.id] = {"true": truths[-1].mean, "candidates": found}
        selected[fact.id] = select(candidates, found, Metric(spec.metric), spec.top_k, spec.seed)
    run.report(stage="measuring", step=len(items), steps=len(items))
    profile = MemoProfile.of(truths)
    return MeasureResult(memo, profile.strength, profile.variation, selected)
