"""Module trees without memory of their own: empty ones, and twins that share another model's weights."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from expunge.errors import ModelError
from expunge.models.silence import quiet_transformers


def empty_model(source: Path | PretrainedConfig) -> PreTrainedModel:
    """The module tree of a model folder or config on the meta device: shapes and names, no numbers.

    Raises:
        ModelError: the folder's config cannot be read.
    """
    with quiet_transformers():
        if isinstance(source, Path):
            try:
                config = AutoConfig.from_pretrained(source, local_files_only=True, trust_remote_code=False)
            except Exception as error:  # config readers raise many unrelated types
                raise ModelError(f"cannot read the model config in {source}: {error}") from error
        else:
            config = copy.deepcopy(source)
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(config)


def share_weights(model: PreTrainedModel) -> PreTrainedModel:
    """A second module tree of the same architecture whose parameters are the same storage.

    For training adapters beside a model that serves: wrapping or hooking the twin does not touch `model`, and
    no weight exists twice. `model` may have a slot table installed; the twin has plain linear layers.
    Parameters come frozen, the twin in evaluation mode; buffers that are computed rather than stored (rotary
    frequencies) are copied, since some kinds of them change while running. Never train the twin's own
    parameters.

    Raises:
        ModelError: the twin would lack a weight, or hold one that is not shared.
    """
    twin = empty_model(model.config)
    twin.load_state_dict(model.state_dict(), assign=True)
    twin.tie_weights()
    _copy_computed_tensors(model, twin)
    twin.generation_config = copy.deepcopy(model.generation_config)
    twin.requires_grad_(False).eval()
    _check_shared(model, twin)
    return twin


def _copy_computed_tensors(model: nn.Module, twin: nn.Module) -> None:
    modules = dict(model.named_modules())
    for name, module in twin.named_modules():
        for key, buffer in module._buffers.items():
            if buffer is not None and buffer.is_meta:
                module._buffers[key] = getattr(modules[name], key).detach().clone()
        for key, value in vars(module).items():
            if isinstance(value, torch.Tensor) and value.is_meta:
                setattr(module, key, getattr(modules[name], key).detach().clone())


def _check_shared(model: nn.Module, twin: nn.Module) -> None:
    originals = dict(model.named_parameters(remove_duplicate=False))
    for name, parameter in twin.named_parameters(remove_duplicate=False):
        if parameter.is_meta or parameter.data_ptr() != originals[name].data_ptr():
            raise ModelError(
                f"weight {name!r} of {type(model).__name__} can't be shared with a second module tree"
            )
    for name, buffer in twin.named_buffers():
        if buffer.is_meta:
            raise ModelError(
                f"buffer {name!r} of {type(model).__name__} can't be rebuilt in a second module tree"
            )
