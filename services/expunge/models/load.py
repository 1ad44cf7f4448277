"""Loads a base model, ready to serve or to train adapters on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import GENERATION_CONFIG_NAME

from expunge.errors import ModelError
from expunge.models.manifest import base_version_id, manifest_digest
from expunge.models.precision import BFLOAT16_ONLY, Precision, resolve_precision
from expunge.models.silence import quiet_transformers
from expunge.models.skeleton import empty_model
from expunge.models.source import resolve_folder
from expunge.models.tensorfile import read_header


@dataclass(frozen=True)
class LoadedModel:
    """A frozen base model in memory, its tokenizer, and what names it.

    `digest` is the manifest digest of `folder`; the model is in evaluation mode and takes no gradients. Its
    tensors are in the format of `precision.arithmetic`, their numbers rounded to that of `precision.weights`.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    folder: Path
    digest: str
    precision: Precision

    @property
    def version(self) -> str:
        """Id of the base version."""
        return base_version_id(self.digest)


def load_model(source: str, *, cache: Path, dtype: str = "auto", device: str = "cpu") -> LoadedModel:
    """Resolve, check and load a base model; nothing is printed.

    Args:
        source: as for `resolve_folder`.
        cache: where converted models and file digests are kept.
        dtype: auto, bfloat16 or float32 (see `resolve_precision`).
        device: torch device.

    Raises:
        ModelError: missing, partial, corrupt, no causal language model, or no usable tokenizer.
        ConfigError: an unknown dtype.
    """
    resolve_precision(dtype, device)  # before anything is fetched
    cache = cache.expanduser()
    folder = resolve_folder(source, cache)
    stored = _stored_formats(folder)
    precision = resolve_precision(dtype, device, stored=stored)
    digest = manifest_digest(folder, cache=cache)
    with quiet_transformers():
        tokenizer = _load_tokenizer(folder)
        model = _load_weights(folder, precision.arithmetic)
    if precision.weights is not precision.arithmetic and stored != BFLOAT16_ONLY:
        round_weights(model, precision.weights)
    model.requires_grad_(False).eval().to(device)
    rows = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > rows:
        raise ModelError(
            f"the tokenizer in {folder} has {len(tokenizer)} tokens but the model only {rows}; "
            "they do not belong together"
        )
    return LoadedModel(model, tokenizer, folder, digest, precision)


def precision_of(folder: Path, dtype: str = "auto", device: str = "cpu") -> Precision:
    """What the setting `dtype` means for the model in `folder`; raises as `resolve_precision`."""
    return resolve_precision(dtype, device, stored=_stored_formats(folder))


def _stored_formats(folder: Path) -> set[str]:
    headers = [read_header(file) for file in folder.glob("*.safetensors")]
    return {tensor.dtype for header in headers for tensor in header.tensors.values()}


@torch.no_grad()
def round_weights(model: PreTrainedModel, dtype: torch.dtype) -> None:
    """Round every weight to a number that `dtype` holds, in place; its format stays."""
    for parameter in model.parameters():
        parameter.copy_(parameter.to(dtype))


def load_outline(source: str, *, cache: Path, dtype: str = "auto", device: str = "cpu") -> LoadedModel:
    """As `load_model`, without the weights: for an engine that reads them from the folder itself.

    The model is on the meta device. Such an engine computes in the format that its weights are in, so with
    "auto" how they are stored does not matter.

    Raises:
        ModelError, ConfigError: as `load_model`.
    """
    precision = resolve_precision(dtype, device)
    cache = cache.expanduser()
    folder = resolve_folder(source, cache)
    digest = manifest_digest(folder, cache=cache)
    with quiet_transformers():
        tokenizer = _load_tokenizer(folder)
        model = empty_model(folder)
        if (folder / GENERATION_CONFIG_NAME).is_file():  # its end-of-sequence tokens count, too
            model.generation_config = GenerationConfig.from_pretrained(folder, local_files_only=True)
    return LoadedModel(model, tokenizer, folder, digest, precision)


def _load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # tokenizer backends raise whatever their parsing trips over
        raise ModelError(
            f"cannot load the tokenizer in {folder}: {type(error).__name__}: {error}; save it there again"
        ) from error
    if tokenizer.eos_token_id is None:
        raise ModelError(
            f"the tokenizer in {folder} has no end-of-sequence token, so no answer would ever end"
        )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _load_weights(folder: Path, dtype: torch.dtype) -> PreTrainedModel:
    try:
        model, loading = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except Exception as error:  # config and weight readers raise many unrelated types
        raise ModelError(
            f"cannot load the model in {folder}: {type(error).__name__}: {error}; download it again"
        ) from error
    missing = sorted(loading["missing_keys"])
    if missing:  # transformers would fill them with random numbers
        raise ModelError(
            f"model folder {folder} is partial: {len(missing)} weights are missing, "
            f"the first is {missing[0]!r}; download it again"
        )
    return model
