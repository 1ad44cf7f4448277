"""The Python client against the running service."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from deployed import Deployed
from expunge.client import AsyncClient, Client, NotFound, user
from tiny_facts import OTHERS


def test_the_local_service_answers_streams_scores_and_lists(service: Deployed) -> None:
    question, known = OTHERS[1]
    with Client.local(service.state) as client:
        whole = client.generate(messages=[user(question)], max_tokens=24)
        chunks = list(client.stream(messages=[user(question)], max_tokens=24))
        score = client.score(" harbour", context="The capital of the island is a small city with a")
        models = {model.alias: model for model in client.models()}
        with pytest.raises(NotFound) as failure:
            client.generate(prompt="x", alias="nowhere")
    assert known in whole.text
    assert "".join(chunk.text for chunk in chunks) == whole.text
    assert {chunk.version for chunk in chunks} == {whole.version} == {service.base}
    assert chunks[-1].usage == whole.usage
    assert chunks[-1].finish_reason is whole.finish_reason
    assert score.logprob == pytest.approx(sum(token.logprob for token in score.tokens))
    assert [target.version for target in models["default"].targets] == [service.base]
    assert failure.value.request_id


async def test_coroutines_share_one_client(service: Deployed) -> None:
    question, known = OTHERS[1]
    async with AsyncClient.local(service.state) as client:
        whole = await client.generate(messages=[user(question)], max_tokens=24)
        chunks = [chunk async for chunk in client.stream(messages=[user(question)], max_tokens=24)]
    assert known in whole.text
    assert "".join(chunk.text for chunk in chunks) == whole.text


def test_the_example_in_the_readme_runs(
    service: Deployed, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", readme, flags=re.DOTALL)
    monkeypatch.setenv("EXPUNGE_STATE_DIR", str(service.state))
    exec(compile(example, "README.md", "exec"), {})
    assert service.base in capsys.readouterr().out
