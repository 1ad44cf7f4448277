"""What every job shares: the model in serving form, the versions it holds, a tree to train on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from transformers import PreTrainedModel

from expunge.auditing.ability.scores import KnownScores
from expunge.auditing.attacks.victim import Victim
from expunge.auditing.attacks.weights import Weights
from expunge.auditing.policy import Policy
from expunge.config import Settings
from expunge.inference.elastic_threads import ElasticThreads
from expunge.inference.local import LocalModel
from expunge.lora.adapter import Adapter
from expunge.lora.shape import ModelShape
from expunge.models.load import LoadedModel, load_model
from expunge.models.skeleton import share_weights
from expunge.registry.blobs import BlobStore
from expunge.unlearning.peft_tree import TrainableTree
from expunge.unlearning.relearning import attackable
from expunge.unlearning.residence import ResidentVersions
from expunge.unlearning.sequences import ChatEncoder

_SLOTS = 6


@dataclass
class Workbench:
    """Built once for each worker process.

    Attributes:
        settings: of the service.
        policy: that versions are audited under.
        loaded: the base model; its linear layers are the serving form's.
        model: asks any resident version.
        versions: which are resident.
        blobs: adapters and checkpoints.
        shape: of the base model.
        threads: shares the cores with other processes while this one computes.
        bare: makes a plain module tree over the same weights.
        scores: general ability of the versions audited last.
    """

    settings: Settings
    policy: Policy
    loaded: LoadedModel
    model: LocalModel
    versions: ResidentVersions
    blobs: BlobStore
    shape: ModelShape
    threads: ElasticThreads
    bare: Callable[[], PreTrainedModel]
    scores: KnownScores = field(default_factory=KnownScores)

    @classmethod
    def open(cls, settings: Settings) -> Workbench:
        """Load the base model and open the blob store. Raises ModelError, ConfigError."""
        loaded = load_model(settings.model, cache=settings.cache, dtype=settings.dtype)
        return cls.over(settings, loaded)

    @classmethod
    def over(cls, settings: Settings, loaded: LoadedModel) -> Workbench:
        """The same over a model that is loaded already."""
        shape = ModelShape.of(loaded.model, loaded.digest)
        blobs = BlobStore(settings.resolved_blob_url)
        threads = ElasticThreads(settings.resolved_worker_threads)
        # What the gateways would refuse for its length must not go live unasked.
        model = LocalModel(
            loaded, _SLOTS, settings.max_rank, max_context=settings.max_context, threads=threads
        )
        versions = ResidentVersions(model, blobs, shape, max_rank=settings.max_rank, capacity=_SLOTS - 1)
        return cls(
            settings,
            Policy.of(settings),
            loaded,
            model,
            versions,
            blobs,
            shape,
            threads,
            lambda: share_weights(loaded.model),
        )

    def weights(self, version: str, adapter: Adapter | None) -> Weights:
        """What attacks on a version's weights need."""
        return attackable(Victim(self.loaded, version, adapter, self.threads))

    @property
    def encoder(self) -> ChatEncoder:
        return ChatEncoder(self.loaded.tokenizer)

    def tree(
        self, adapter: Adapter | None, *, rank: int = 16, alpha: float = 32.0, seed: int = 0
    ) -> TrainableTree:
        """A tree to train: on an adapter's factors, or on fresh ones where there is none."""
        if adapter is None:
            return TrainableTree.fresh(self.bare(), self.shape.base_digest, rank=rank, alpha=alpha, seed=seed)
        return TrainableTree.of(self.bare(), adapter, self.shape.base_digest)

    def greedy(
        self, version: str, max_new_tokens: int
    ) -> Callable[[Sequence[tuple[int, ...]]], list[list[int]]]:
        """Greedy answers of one resident version, by prompt ids."""
        return lambda prompts: self.model.greedy(prompts, version, max_new_tokens)
