"""The load as a process of its own, so that it does not share the service's interpreter.

It reads a `Target` line, says "ready", then answers each `Plan` line with a line of responses until standard
input is closed. An endless plan is told as "begun" once it is under way, and ended by one more line. Only a
target of kind ENGINE imports torch.
"""

from __future__ import annotations

import asyncio
import sys
from functools import partial

from expunge.benchmarks.serving.load import Asker, Load
from expunge.benchmarks.serving.plan import Plan, Target, TargetKind, responses_to_line

READY, BEGUN, END = "ready", "begun", "end"


async def asker_of(target: Target) -> Asker:
    """The asker for a target."""
    if target.kind is TargetKind.EXPUNGE:
        from expunge.benchmarks.serving.expunge_asker import ExpungeAsker

        return ExpungeAsker(target)
    if target.kind is TargetKind.OPENAI:
        from expunge.benchmarks.serving.openai_asker import OpenAiAsker

        return OpenAiAsker(target)
    from expunge.benchmarks.serving.engine_asker import EngineAsker

    return await EngineAsker.start(target)


async def main() -> None:
    """Serves standard input."""
    asker = await asker_of(Target.from_line(sys.stdin.readline()))
    load = Load(asker)
    print(READY, flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        plan = Plan.from_line(line)
        if plan.is_endless:
            over = asyncio.to_thread(sys.stdin.readline)
            responses = await load.flood(plan, over, partial(print, BEGUN, flush=True))
        else:
            responses = await load.run(plan)
        print(responses_to_line(responses), flush=True)
    await asker.close()


if __name__ == "__main__":
    asyncio.run(main())
