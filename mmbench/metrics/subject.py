"""What a metric is measured on: a network with its data, and the results that several metrics share."""

from __future__ import annotations

import copy
import hashlib
import time
from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol, TypeVar

import torch
from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from mmbench.data.base import Split
from mmbench.errors import DataError, UndefinedError
from mmbench.landscape.surface import Surface
from mmbench.metrics._ledger import Ledger
from mmbench.metrics._sound import require_independent, require_logits, require_output, require_sound
from mmbench.models.measurable import (
    full_dtype,
    measurable,
    without_checkpoints,
    without_parametrizations,
)
from mmbench.models.reading import architecture_of
from mmbench.training.loop import train
from mmbench.training.recipes import Training

Expand = Callable[[nn.Module, int], nn.Module]


T = TypeVar("T")
State = Literal["expanded", "random", "trained"]
"""The weights to measure: those just expanded, fresh random ones, or the expanded ones after some training."""
SEEN = 256
"""Images that give a fresh network's batch norms their statistics."""
PROBED = 8
"""Images on which a network is checked before anything is differentiated."""


class Compares(Protocol):
    """A metric that measures something on the base model."""

    def reference(self, base: Subject) -> Mapping[str, torch.Tensor]:
        """The measurements."""

    def reference_options(self) -> dict[str, Any]:
        """The options that they depend on."""


class Subject:
    """A network with the images that it is measured on.

    All metrics on one subject see the same images, and results that they share (a gradient, a Lanczos run, the network
    after k steps) are computed once. A shared result does not depend on which metric asks first, and its cost is
    charged to every metric that uses it.

    A network in half precision is measured in single precision, a wrapped one (`DataParallel`, compiled) without its
    wrapper, and activations are not checkpointed. Frozen parameters (`requires_grad = False`) are constants, as in
    training; a network without any trainable parameter counts as wholly trainable.
    """

    def __init__(
        self,
        model: nn.Module,
        train: Split,
        *,
        validation: Split | None = None,
        base: nn.Module | Base | None = None,
        expand: Expand | None = None,
        seed: int = 0,
        images_seed: int | None = None,
        losses: torch.Tensor | None = None,
        epoch_steps: int | None = None,
    ) -> None:
        """A subject never changes its inputs; the model must not change while the subject is in use.

        Args:
            model: images (N, C, H, W) to logits (N, classes).
            train: training images and labels (N,), on the model's device.
            validation: held-out images and labels, for the metrics that need them.
            base: the network that `model` was expanded from, for the metrics that need it; a `Base` if several subjects
                with the same base, data and seed share its results.
            expand: the expansion, for the metrics that need it: takes a network like the base and the number of a
                draw; draw 0 is the one that produced `model`.
            seed: of all random draws except the choice of images.
            images_seed: of the choice of images; subjects with the same one (all expansions of a base model) are
                measured on the same images. By default it is `seed`.
            losses: (steps,) of the expanded model's training so far, in nats, if it has begun.
            epoch_steps: steps per epoch of that training.
        """
        self._model, dtype = model, full_dtype(model)
        self.train, self._expand = _cast(train, dtype), expand
        self._validation = None if validation is None else _cast(validation, dtype)
        self._base = base if base is None or isinstance(base, Base) else Base(base)
        self._seed, self._images_seed = seed, seed if images_seed is None else images_seed
        self._ledger = Ledger()
        self._place = ""
        self._references: dict[str, Mapping[str, torch.Tensor]] = {}
        self._losses, self._epoch_steps = losses, epoch_steps

    @property
    def validation(self) -> Split:
        """Held-out images; `UndefinedError` if there are none."""
        if self._validation is None:
            raise UndefinedError("this metric needs held-out data: give validation=(images, labels)")
        return self._validation

    @property
    def losses(self) -> torch.Tensor:
        """Training losses (steps,) up to the moment, in nats; `UndefinedError` before the training."""
        if self._losses is None:
            raise UndefinedError(
                "this metric reads the training losses, and there are none before the training: give a later moment, "
                "such as metric.after=1epochs"
            )
        return self._losses

    @property
    def epoch_steps(self) -> int:
        """Steps per epoch of the training; `UndefinedError` before it."""
        if self._epoch_steps is None:
            raise UndefinedError("the length of an epoch is unknown before the training: give metric.after=1epochs")
        return self._epoch_steps

    @property
    def base(self) -> nn.Module:
        """A copy of the network before its expansion, in evaluation mode; `UndefinedError` if it was not given."""
        base = measurable(self._known_base.model)
        images = self.images(PROBED).images.to(full_dtype(base))
        self.once("base gives logits", lambda: require_logits(base, images, "base"))
        return base

    @property
    def has_base(self) -> bool:
        """Whether the network before its expansion is known."""
        return self._base is not None

    @property
    def _known_base(self) -> Base:
        if self._base is None:
            raise UndefinedError("this metric needs the network before its expansion: give base=model")
        return self._base

    def expanded(self, small: nn.Module, draw: int = 0) -> nn.Module:
        """`small`, a network like the base, expanded as the base was; draw 0 repeats the original random draws."""
        if self._expand is None:
            raise UndefinedError("this metric needs the expansion itself: give expand=function, called with a network "
                                 "like the base and the number of a draw")  # fmt: skip
        self.require_logits()
        return measurable(self._expand(small, draw))

    def network(self) -> nn.Module:
        """A copy of the network that may be changed: in evaluation mode, with its trainable parameters."""
        return measurable(self._model)

    def require_output(self) -> None:
        """Raise `DataError` unless the network takes the images and returns one tensor."""
        self.once("output", lambda: require_output(self.network(), self.images(PROBED).images))

    def require_logits(self) -> None:
        """Raise `DataError` unless the network takes the images and returns logits, with a class for each label."""
        images = self.images(PROBED).images
        self.once("logits", lambda: require_logits(self.network(), images, labels=self._largest_label()))

    def generator(self, name: str) -> torch.Generator:
        """A CPU generator for random draws; the same name always gives the same draws."""
        return torch.Generator().manual_seed(_hash(self._seed, self._place, name))

    def common_generator(self, name: str) -> torch.Generator:
        """Like `generator`, with the same draws for all subjects that share their images: a base and its expansions."""
        return torch.Generator().manual_seed(_hash(self._images_seed, "common", name))

    def images(self, count: int) -> Split:
        """Training images drawn without replacement; a smaller draw is the start of a larger one.

        Args:
            count: how many; if there are not more, all of them in their own order.

        Returns:
            Images and labels.
        """
        split = self.train
        if count >= len(split):
            return split
        generator = torch.Generator().manual_seed(_hash(self._images_seed, "images"))
        chosen = torch.randperm(len(split), generator=generator)[:count].to(split.labels.device)
        return Split(split.images[chosen], split.labels[chosen])

    def surface(self, count: int, batch_statistics: bool = False) -> Surface:
        """The loss on `count` training images, shared by all metrics.

        Args:
            count: as for `images`.
            batch_statistics: whether batch norms use the statistics of the images, which then go through in one pass.

        Returns:
            The surface, with its point reset to the network's weights.

        Raises:
            DataError: the network does not take the images, or has fewer classes than there are labels.
            ScoreError: the network is dead, or its logits are not finite.
            UndefinedError: two forward passes give different logits, so the loss cannot be differentiated; or the
                logits of an image depend on the other images, although they go through in pieces.
        """

        def check(surface: Surface) -> None:
            self.require_logits()
            require_sound(surface)
            if not batch_statistics:
                require_independent(surface)

        def make() -> tuple[Surface, torch.Tensor]:
            surface = Surface(self.network(), self.images(count), batch_statistics)
            self.once(("sound", batch_statistics), lambda: check(surface.on(self.images(PROBED))))
            return surface, surface.point.clone()

        surface, start = self.once(("surface", min(count, len(self.train)), batch_statistics), make)
        surface.point.copy_(start)
        return surface

    def once(self, key: Any, compute: Callable[[], T]) -> T:
        """The result of `compute`, which is called only if no metric asked for this key before.

        Args:
            key: a string or tuple of everything that the result depends on, except the network and the data.
            compute: called with the global random state seeded from the key.

        Returns:
            The result, which must not be changed. Its cost is charged to every metric that asks for it.
        """
        full = (self._place, key)

        def seeded() -> T:
            with torch.random.fork_rng([]):
                torch.default_generator.manual_seed(_hash(self._seed, repr(full)))
                return compute()

        return self._ledger.get(full, seeded)

    def of_base(self, key: Any, compute: Callable[[], T]) -> T:
        """Like `once`, for results that depend only on the base, the data and the seed: they are kept in the `Base`."""
        known, full = self._known_base.known, (self._seed, self._place, key)

        def find() -> T:
            if full not in known:
                start = time.perf_counter()
                known[full] = compute(), time.perf_counter() - start
            else:
                self._ledger.charge(known[full][1])
            value: T = known[full][0]
            return value

        return self.once(("of the base", key), find)

    def reference(self, metric: Compares) -> Mapping[str, torch.Tensor]:
        """What a metric measures on the base model: as a run has stored it, or measured now, once per `Base`.

        Args:
            metric: has `reference` and `reference_options`.

        Returns:
            The tensors of `metric.reference`.

        Raises:
            UndefinedError: the subject does not know its base.
            DataError: the base has another dtype than the network.
        """
        key = repr(metric.reference_options())
        if key not in self._references:
            dtype, own = self.train.images.dtype, full_dtype(self._known_base.model)
            if own != dtype:
                raise DataError(f"base has parameters of {own}, the network of {dtype}: give both the same dtype")
            base = Subject(self._known_base.model, self.train, validation=self._validation, seed=self._seed,
                           images_seed=self._images_seed)  # fmt: skip
            return self.of_base(("reference", key), lambda: metric.reference(base))
        return self._references[key]

    def give_reference(self, metric: Compares, tensors: Mapping[str, torch.Tensor]) -> None:
        """Use these tensors as the result of `metric.reference`."""
        self._references[repr(metric.reference_options())] = tensors

    def in_state(self, state: State, steps: int, training: Training) -> Subject:
        """The subject with other weights.

        Args:
            state: `expanded` for the weights as they are, `random` for freshly initialised ones, `trained` for those
                after some training.
            steps: of that training.
            training: its recipe.

        Returns:
            A subject with the same images and seeds, shared by all metrics.

        Raises:
            DivergedError: the training diverged.
            UndefinedError: the network has parameters whose initialisation is unknown.
        """
        if state == "expanded":
            return self
        if state == "random":
            return self.once("random network", lambda: self._elsewhere("random", self._fresh()))
        place = f"after {steps} of {training.describe()}"
        return self.once(place, lambda: self._elsewhere(place, self._trained(steps, training)))

    @property
    def plain(self) -> Subject:
        """The subject with weights that are parameters: `self` unless some are parametrised (weight norm)."""
        if not any(map(is_parametrized, self._model.modules())):
            return self
        return self.once("plain weights", lambda: self._elsewhere("plain", without_parametrizations(self.network())))

    def measured(self, measure: Callable[[Subject], T]) -> tuple[T, float]:
        """The result of `measure`, and its cost in seconds, including shared results."""
        self._ledger.begin()
        start = time.perf_counter()
        with without_checkpoints():
            result = measure(self)
        return result, time.perf_counter() - start + self._ledger.saved

    def _largest_label(self) -> int:
        held_out = [] if self._validation is None else [self._validation]
        return max(int(split.labels.max()) for split in (self.train, *held_out))

    def _elsewhere(self, place: str, model: nn.Module) -> Subject:
        subject = copy.copy(self)
        subject._model, subject._place = model, f"{self._place}/{place}"
        return subject

    def _trained(self, steps: int, training: Training) -> nn.Module:
        self.require_logits()
        model = self.network()
        train(model, self.train, training, self.generator("training order"), stop_after=steps)
        return model

    def _fresh(self) -> nn.Module:
        model, given = self.network(), self.network()
        initialised: set[int] = set()
        for module in model.modules():
            if callable(reset := getattr(module, "reset_parameters", None)):
                reset()
                initialised |= {id(p) for p in module.parameters()}
        try:
            architecture, shape = architecture_of(model)
        except UndefinedError:
            missing = [name for name, p in model.named_parameters() if id(p) not in initialised]
            if missing:
                raise UndefinedError(
                    f"metric.state = 'random' needs to initialise {missing[0]!r}, "
                    "but its module has no reset_parameters method"
                ) from None
        else:
            reference = next(model.parameters())
            model = architecture.build(shape).to(reference.device, reference.dtype)
        with torch.no_grad():
            for parameter, old in zip(model.parameters(), given.parameters(), strict=True):
                if not old.requires_grad:
                    parameter.requires_grad_(False).copy_(old)
        return self._with_statistics(model)

    def _with_statistics(self, model: nn.Module) -> nn.Module:
        """Set the batch norms of a fresh network to the statistics of some images."""
        norms = [m for m in model.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.train().momentum = 1.0
        if norms:
            with torch.no_grad():
                model(self.images(SEEN).images)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        return model


class Base:
    """A network from which others were expanded, with results that their subjects share."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.known: dict[Any, tuple[Any, float]] = {}
        """Results by key, each with the seconds that it took."""


def _cast(split: Split, dtype: torch.dtype) -> Split:
    return split if split.images.dtype == dtype else Split(split.images.to(dtype), split.labels)


def _hash(*parts: object) -> int:
    text = "\0".join(map(str, parts)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> 1
