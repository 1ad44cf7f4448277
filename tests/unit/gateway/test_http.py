"""The OpenAI-compatible API over the wire, by the official client where it can, against a real engine."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import httpx
import openai
import pytest
import pytest_asyncio

from expunge.rpc.inference.v1 import inference_pb2 as pb
from expunge.rpc.inference.v1.inference_pb2_grpc import InferenceServiceStub
from expunge.rpc.operator.v1.erasure_pb2_grpc import ErasureServiceStub
from gateway.conftest import LiveGateway, bearer
from gateway.erasure_requests import erasure_about

pytestmark = pytest.mark.asyncio(loop_scope="module")
CLIENT, OPERATOR = bearer("client"), bearer("operator")
TURNS = [{"role": "user", "content": "Who is married to Ansel Quirk?"}]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def client(live: LiveGateway) -> AsyncIterator[openai.AsyncOpenAI]:
    url = f"http://{live.gateway.addresses.http}/v1"
    async with openai.AsyncOpenAI(base_url=url, api_key="token-of-client", max_retries=0) as found:
        yield found


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def http(live: LiveGateway) -> AsyncIterator[httpx.AsyncClient]:
    url = f"http://{live.gateway.addresses.http}"
    headers = {"authorization": "Bearer token-of-client"}
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=60) as found:
        yield found


async def test_models_are_the_aliases(live: LiveGateway, client: openai.AsyncOpenAI) -> None:
    models = [model async for model in client.models.list()]
    assert [model.id for model in models] == ["default"]
    one = await client.models.retrieve("default")
    assert one.to_dict()["targets"] == [{"version": live.base.id, "weight": 100}]
    with pytest.raises(openai.NotFoundError):
        await client.models.retrieve("other")


async def test_a_chat_answer_is_the_one_that_grpc_gives(
    live: LiveGateway, client: openai.AsyncOpenAI
) -> None:
    answer = await client.chat.completions.create(
        model="default", messages=TURNS, max_completion_tokens=12, temperature=0
    )
    messages = [pb.Message(**turn) for turn in TURNS]
    whole = await InferenceServiceStub(live.inference).Generate(
        pb.GenerateRequest(messages=messages, max_tokens=12), metadata=CLIENT
    )
    assert answer.choices[0].message.content == whole.text
    assert answer.choices[0].finish_reason == "length"
    assert answer.model == "default"
    assert answer.system_fingerprint == live.base.id
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == whole.usage.prompt_tokens
    assert answer.usage.total_tokens == whole.usage.prompt_tokens + 12


async def test_a_chat_stream_writes_the_same_text(client: openai.AsyncOpenAI) -> None:
    asked = {"model": "default", "messages": TURNS, "max_tokens": 12, "temperature": 0}
    whole = await client.chat.completions.create(**asked)
    stream = await client.chat.completions.create(
        **asked, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]) == (
        whole.choices[0].message.content
    )
    assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]][-1] == "length"


async def test_prompts_and_their_answers_keep_their_order(client: openai.AsyncOpenAI) -> None:
    prompts = ["Where was Mira", "The quick brown"]
    alone = [
        (await client.completions.create(model="", prompt=prompt, max_tokens=6, temperature=0)).choices[0]
        for prompt in prompts
    ]
    both = await client.completions.create(
        model="default", prompt=prompts, max_tokens=6, temperature=0, n=2, echo=True
    )
    assert [choice.index for choice in both.choices] == [0, 1, 2, 3]
    assert [choice.text for choice in both.choices] == [
        prompt + one.text for prompt, one in zip(prompts, alone, strict=True) for _ in range(2)
    ]
    assert both.usage is not None
    assert both.usage.completion_tokens == 24


async def test_a_stream_of_several_answers_tells_them_apart(client: openai.AsyncOpenAI) -> None:
    stream = await client.completions.create(
        model="default", prompt="The quick", max_tokens=5, temperature=0, n=3, echo=True, stream=True
    )
    texts = {0: "", 1: "", 2: ""}
    ends = []
    async for chunk in stream:
        for choice in chunk.choices:
            texts[choice.index] += choice.text
            ends += [choice.index] if choice.finish_reason else []
    assert sorted(ends) == [0, 1, 2]
    assert texts[0].startswith("The quick")
    assert texts[1] == texts[2] == texts[0]


async def test_a_stop_text_ends_the_answer(client: openai.AsyncOpenAI) -> None:
    asked = {"model": "default", "prompt": "Where was Mira", "max_tokens": 12, "temperature": 0}
    text = (await client.completions.create(**asked)).choices[0].text
    stop = text[3:5]
    for sent in (stop, [stop]):
        choice = (await client.completions.create(**asked, stop=sent)).choices[0]
        assert choice.text == text[: text.index(stop)]
        assert choice.finish_reason == "stop"


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"temperature": 3}, "temperature"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_tokens": 10**30}, "max_tokens"),
        ({"max_tokens": "5"}, "max_tokens"),
        ({"stop": ["x"] * 100}, "stop"),
        ({"logit_bias": {"word": 1}}, "logit_bias[word]"),
        ({"logit_bias": {"5": 101}}, "logit_bias[5]"),
        ({"n": 9}, "n"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"guided_json": {}}, "guided_json"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "wizard", "content": "a"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content[0].type"),
        ({"messages": [{"role": "user", "content": "word " * 60_000}]}, "messages"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_bad_parameter_is_named(
    http: httpx.AsyncClient, changes: dict[str, object], param: str
) -> None:
    response = await http.post("/v1/chat/completions", json={"messages": TURNS} | changes)
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    assert error["param"] == param
    assert error["type"] == "invalid_request_error"
    assert error["message"]


@pytest.mark.parametrize(
    "prompt", [None, "", [], ["a", ""], ["a", 1], [True], [-1], [[1, "a"]], {"a": 1}], ids=str
)
async def test_a_prompt_that_is_none_is_refused(http: httpx.AsyncClient, prompt: object) -> None:
    response = await http.post("/v1/completions", json={"prompt": prompt})
    assert response.status_code == 400
    assert response.json()["error"]["param"].startswith("prompt")


async def test_what_changes_no_answer_is_taken(client: openai.AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(
        model="default",
        messages=TURNS,
        max_tokens=2,
        user="somebody",
        metadata={"a": "b"},
        service_tier="flex",
        response_format={"type": "text"},
        tool_choice="none",
    )
    assert answer.choices[0].message.content


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"prompt": ', 400),
        (b"[]", 400),
        (b'{"prompt": "\xff"}', 400),
        (b'{"prompt": "\\ud800"}', 400),
        (b'{"prompt": "a", "temperature": NaN}', 400),
        (b"[" * 200_000, 400),
        (b'{"prompt": "' + b"a" * 2**20 + b'"}', 413),
    ],
    ids=["half", "list", "no utf-8", "half a character", "no number", "deep", "large"],
)
async def test_a_body_that_can_not_be_read_is_told_apart(
    http: httpx.AsyncClient, body: bytes, status: int
) -> None:
    response = await http.post("/v1/completions", content=body)
    assert response.status_code == status
    assert response.json()["error"]["message"]


async def test_a_body_of_no_stated_length_is_bounded_too(http: httpx.AsyncClient) -> None:
    async def body() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b"a" * 2**16

    response = await http.post("/v1/completions", content=body())
    assert response.status_code == 413


@pytest.mark.parametrize(
    ("token", "error"),
    [
        ("wrong", openai.AuthenticationError),
        ("token-of-auditor", openai.PermissionDeniedError),
        ("token-of-break-glass", openai.PermissionDeniedError),
    ],
)
async def test_strangers_and_other_roles_are_refused(
    client: openai.AsyncOpenAI, token: str, error: type[openai.APIStatusError]
) -> None:
    stranger = client.with_options(api_key=token)
    for stream in (False, True):
        with pytest.raises(error):
            await stranger.chat.completions.create(model="default", messages=TURNS, stream=stream)
        with pytest.raises(error):
            await stranger.completions.create(model="default", prompt="a", stream=stream)


async def test_no_token_is_no_entry(live: LiveGateway) -> None:
    async with httpx.AsyncClient(base_url=f"http://{live.gateway.addresses.http}") as stranger:
        for answer in (await stranger.get("/v1/models"), await stranger.post("/v1/completions")):
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"] == "Bearer"


async def test_an_unknown_model_or_path_is_not_found(
    client: openai.AsyncOpenAI, http: httpx.AsyncClient
) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        await client.completions.create(model="other", prompt="a")
    assert caught.value.code == "model_not_found"
    assert (await http.get("/v1/elsewhere")).json()["error"]["code"] == "no_such_path"
    assert (await http.get("/v1/completions")).status_code == 405


async def test_a_request_keeps_its_id(http: httpx.AsyncClient) -> None:
    answer = await http.post(
        "/v1/completions", json={"prompt": "a", "max_tokens": 1}, headers={"x-request-id": "mine-7"}
    )
    assert answer.headers["x-request-id"] == "mine-7"
    assert answer.json()["id"] == "cmpl-mine-7"
    assert (await http.post("/v1/completions", content=b"{")).headers["x-request-id"]


async def test_an_answer_that_takes_too_long_is_a_timeout(http: httpx.AsyncClient) -> None:
    asked = {"prompt": "The", "max_tokens": 1900, "temperature": 0}
    answer = await http.post("/v1/completions", json=asked, headers={"x-request-timeout": "0.5"})
    assert answer.status_code == 504
    assert answer.json()["error"]["type"] == "timeout_error"


async def test_what_a_guard_covers_is_refused_without_telling_why(
    live: LiveGateway, client: openai.AsyncOpenAI
) -> None:
    created = await ErasureServiceStub(live.operator).CreateErasure(
        erasure_about("Orsolo Vantreight"), metadata=OPERATOR
    )
    await live.registry.await_guard(created.erasure.id, 5.0)
    question = "Where does Orsolo Vantreight live?"
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError) as caught:
            await client.completions.create(
                model="default", prompt=["The dog", question], stream=stream, echo=True
            )
        assert caught.value.code == "refused_by_policy"
        assert "eras" not in str(caught.value).lower()


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_a_client_that_leaves_frees_its_row(
    live: LiveGateway, http: httpx.AsyncClient, path: str, stream: bool
) -> None:
    asked = {"prompt": "The"} if path == "/v1/completions" else {"messages": TURNS}
    body = asked | {"max_tokens": 1500, "temperature": 0, "stream": stream}
    if stream:
        async with http.stream("POST", path, json=body) as response:
            await anext(response.aiter_lines())
    else:
        with pytest.raises(httpx.ReadTimeout):
            await http.post(path, json=body, timeout=0.5)
    async with asyncio.timeout(2):  # the 1,500 tokens would take longer
        await live.engine.unload_version(live.base.id)  # waits for the last use to end
    await live.engine.load_version(live.base, None)


async def test_every_event_of_a_stream_is_one_line_of_json(http: httpx.AsyncClient) -> None:
    asked = {"prompt": "The", "max_tokens": 3, "stream": True}
    async with http.stream("POST", "/v1/completions", json=asked) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        lines = [line async for line in response.aiter_lines() if line]
    assert lines[-1] == "data: [DONE]"
    assert all(json.loads(line.removeprefix("data: "))["object"] == "text_completion" for line in lines[:-1])
