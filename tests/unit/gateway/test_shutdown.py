"""How the whole application ends: no stream is cut by the engine while the gateway drains."""

from __future__ import annotations

from pathlib import Path

import pytest
from ray import serve

from expunge.config import Settings
from expunge.gateway import launch
from expunge.gateway.deployment import build_gateway
from expunge.inference.deployment import build_engine


def stop_timeout_s(application: serve.Application) -> float:
    return float(application._bound_deployment._deployment_config.graceful_shutdown_timeout_s)


def test_the_engine_outlives_the_gateways_drain(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path, drain_notice_s=3, drain_grace_s=200)
    engine = build_engine(settings)
    gateway = build_gateway(settings, engine)
    assert stop_timeout_s(engine) > settings.drain_notice_s + settings.drain_grace_s
    assert stop_timeout_s(gateway) > settings.drain_notice_s + settings.drain_grace_s


def test_draining_may_take_longer_than_serve_waits_for_a_deletion(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def delete(name: str) -> None:
        asked.append(name)
        if len(asked) == 1:
            raise TimeoutError("Some of these applications weren't deleted after 60s")

    monkeypatch.setattr(serve, "delete", delete)
    launch._delete_application(patience_s=60)
    assert asked == [launch.APPLICATION] * 2
