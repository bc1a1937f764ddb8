"""Gradients of single images: their squared norms, mostly without computing the gradients themselves.

A layer whose weight W acts on the inputs a_t at several positions t has, for one image, the gradient sum_t g_t a_t',
where g_t is the gradient at its outputs. Its squared norm is <A A', G G'>, the inner product of two Gram matrices over
positions. So the gradient itself is computed only where that is cheaper (Goodfellow, 2015; Rochette et al., 2019). One
backward pass to the layers' outputs serves all images at once.

Each layer's rule is checked against autograd on a few images. Parameters without a rule (in a custom module), or whose
rule fails this check (a weight used twice), are differentiated by autograd, image by image.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from mmbench.landscape.surface import Surface

Cotangents = Callable[[Tensor, Tensor], tuple[int, Iterable[Tensor]]]
"""From logits (n, C) and labels (n,) to K and the tensors s_1, ..., s_K (n, C), generated one by one."""
TRIED = 5
"""Images on which the rules are checked."""
COLUMNS = 32
"""Width of a matrix product: layers with few outputs compute gradients for several cotangents at once."""


def squared_norms(surface: Surface, cotangents: Cotangents) -> Tensor:
    """sum_k ||J_n' s_nk||^2 for every image n: (N,), float64, where J_n (C, P) is the Jacobian of its logits."""
    rules = _Rules(surface)
    return torch.cat([rules.squared_norms(images, labels, cotangents) for images, labels in surface.chunks()])


def gram(surface: Surface) -> Tensor:
    """The empirical neural tangent kernel J J' over all images and logits (Jacot et al., 2018).

    Computed layer by layer, so that the Jacobian of only one layer is in memory at a time.

    Returns:
        (N C, N C), float64; row n C + c belongs to logit c of image n.
    """
    rules = _Rules(surface)
    with torch.no_grad():
        classes = surface.model(surface.images.images[:1]).shape[1]
    size = len(surface.images) * classes
    kernel = torch.zeros(size, size, dtype=torch.float64, device=surface.point.device)
    for layer in zip(*[rules.jacobians(images, classes) for images, _ in surface.chunks()], strict=True):
        jacobian = torch.cat(layer)
        kernel += (jacobian @ jacobian.T).double()
    return kernel


class _Rule:
    """How one use of a layer turns the gradients at its output into those of its parameters, image by image."""

    def expect(self, cotangents: int) -> None:
        """Announce the number of gradients, on which the cheapest method depends."""

    @abstractmethod
    def add(self, gradient: Tensor) -> None:
        """Add one more gradient (n, ...) at the layer's output."""

    @abstractmethod
    def squared_norms(self) -> Tensor:
        """The sum of the squared norms of all gradients added: (n,)."""

    @abstractmethod
    def gradients(self, gradient: Tensor) -> Tensor:
        """The parameters' gradients, in the module's order: (n, p)."""


class _Explicit(_Rule):
    """A rule that computes the gradients explicitly, since they are small, and squares them."""

    def __init__(self) -> None:
        self.total: Tensor | float = 0.0

    def add(self, gradient: Tensor) -> None:
        self.total = self.total + _squared(self.gradients(gradient))

    def squared_norms(self) -> Tensor:
        assert isinstance(self.total, torch.Tensor)
        return self.total


class _Products(_Rule):
    """A weight (and a bias) that acts on inputs a (n, groups, positions, in): Linear, Conv2d."""

    def __init__(self, inputs: Tensor, outputs: int, bias: bool, arrange: Callable[[Tensor], Tensor]) -> None:
        self.inputs, self.outputs, self.bias, self.arrange = inputs, outputs, bias, arrange
        self.by_gram = False
        self.total: Tensor | None = None
        self.waiting: list[Tensor] = []
        self.room: Tensor | None = None

    def expect(self, cotangents: int) -> None:
        t, width = self.inputs.shape[2:]
        gram = t * t * (cotangents * (self.outputs + 8) + width)
        self.by_gram = gram < cotangents * (t + 8) * width * self.outputs

    def add(self, gradient: Tensor) -> None:
        g = self.arrange(gradient)
        n, groups, positions, width = g.shape
        flat = g.reshape(n * groups, positions, width)
        if self.by_gram and positions > 1:
            old = self.total
            self.total = torch.bmm(flat, flat.mT) if old is None else torch.baddbmm(old, flat, flat.mT, out=old)
        elif self.by_gram:
            self._count(_squared(flat))
        else:
            self.waiting.append(flat)
            if len(self.waiting) * width >= COLUMNS:
                self._make()

    def _make(self) -> None:
        """Compute the gradients for the waiting cotangents, and add their squares."""
        inputs = self.inputs.flatten(0, 1)
        flat = torch.cat(self.waiting, 2) if len(self.waiting) > 1 else self.waiting[0]
        self.waiting = []
        if self.room is None or self.room.shape[2] != flat.shape[2]:  # else the buffer is reused
            self.room = inputs.new_empty(len(inputs), inputs.shape[2], flat.shape[2])
        self._count(_squared(torch.bmm(inputs.mT, flat, out=self.room)))
        if self.bias:
            self._count(_squared(flat.sum(1)))

    def _count(self, squares: Tensor) -> None:
        self.total = squares if self.total is None else self.total + squares

    def squared_norms(self) -> Tensor:
        if self.waiting:
            self._make()
        assert self.total is not None
        n, groups, positions, width = self.inputs.shape
        if self.by_gram:
            ones = float(self.bias)  # a bias acts as an extra input that is always 1
            flat = self.inputs.reshape(n * groups, positions, width)
            if positions == 1:
                total = self.total * (_squared(flat) + ones)
            else:
                total = torch.einsum("bst,bst->b", torch.bmm(flat, flat.mT).add_(ones), self.total)
        else:
            total = self.total
        return total.view(n, groups).sum(1)

    def gradients(self, gradient: Tensor) -> Tensor:
        g = self.arrange(gradient)
        weight = torch.matmul(g.mT, self.inputs).flatten(1)
        return torch.cat([weight, g.sum(2).flatten(1)], 1) if self.bias else weight


def _gradients(logits: Tensor, inputs: Sequence[Tensor], direction: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(logits, inputs, direction, retain_graph=True, materialize_grads=True)


def _same(a: Tensor, b: Tensor) -> bool:
    """Whether a equals b up to rounding, relative to the largest entry."""
    return a.shape == b.shape and bool((a - b).abs_().max() <= 1e-4 * b.abs().max())


def _squared(x: Tensor) -> Tensor:
    """Squared norm of each row, without a temporary tensor of the size of x."""
    return torch.linalg.vector_norm(x.flatten(1), dim=1).square()


class _Scales(_Explicit):
    """A scale (and a shift) of each channel: normalisation layers, layer scale."""

    def __init__(self, normal: Tensor, bias: bool, channel: int) -> None:
        super().__init__()
        self.normal, self.bias, self.channel = normal, bias, channel % normal.dim()

    def gradients(self, gradient: Tensor) -> Tensor:
        others = [d for d in range(1, gradient.dim()) if d != self.channel]

        def summed(x: Tensor) -> Tensor:
            return x.sum(others) if others else x

        scale = summed(gradient * self.normal)
        return torch.cat([scale, summed(gradient)], 1) if self.bias else scale


class _Copies(_Explicit):
    """A parameter that has one copy per image, whose gradient is that image's."""

    def gradients(self, gradient: Tensor) -> Tensor:
        return gradient.flatten(1)


TIMM = {"GroupNorm", "LayerNorm", "LayerNorm2d", "LayerScale", "LayerScale2d"}
"""timm layers that compute the same as torch's of that name, or that have their own rule."""


def _rule(module: nn.Module, a: Tensor) -> _Rule | None:
    """The rule for one call of `module` on inputs `a`, if there is one."""
    kind, home = type(module).__name__, type(module).__module__
    if not (home.startswith("torch.nn.modules.") or (home.startswith("timm.layers.") and kind in TIMM)):
        return None  # a subclass may use its weights differently
    if isinstance(module, nn.Linear):
        inputs = a.reshape(len(a), 1, -1, a.shape[-1])
        bias = module.bias is not None
        return _Products(inputs, module.out_features, bias, lambda g: g.reshape(len(g), 1, -1, g.shape[-1]))
    if isinstance(module, nn.Conv2d) and not isinstance(module.padding, str) and module.padding_mode == "zeros":
        return _convolution(module, a)
    if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.affine and module.running_mean is not None:
        normal = functional.batch_norm(a, module.running_mean, module.running_var, eps=module.eps)
        return _Scales(normal, module.bias is not None, 1)
    if isinstance(module, nn.LayerNorm) and module.elementwise_affine and len(module.normalized_shape) == 1:
        channel_first = kind == "LayerNorm2d"  # timm's: over the channels of (n, C, H, W)
        x = a.movedim(1, -1) if channel_first else a
        normal = functional.layer_norm(x, module.normalized_shape, eps=module.eps)
        if channel_first:
            return _Scales(normal.movedim(-1, 1), module.bias is not None, 1)
        return _Scales(normal, module.bias is not None, -1)
    if isinstance(module, nn.GroupNorm) and module.affine:
        return _Scales(functional.group_norm(a, module.num_groups, eps=module.eps), True, 1)
    if kind in ("LayerScale", "LayerScale2d"):
        return _Scales(a, False, 1 if kind == "LayerScale2d" else -1)
    return None


def _without_sums(norm: Any, a: Tensor, output: Tensor) -> Tensor:
    """A batch norm's output, with a backward pass that skips sums which are not needed."""
    if norm.bias is None:
        return output
    shape = (1, -1, *[1] * (a.dim() - 2))
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    affine = torch.addcmul((norm.bias - norm.running_mean * scale).view(shape), a, scale.view(shape))
    return affine if _same(affine.detach(), output.detach()) else output


def _convolution(conv: nn.Conv2d, a: Tensor) -> _Rule:
    groups = conv.groups
    padding: Any = conv.padding
    patches = functional.unfold(a, conv.kernel_size, conv.dilation, padding, conv.stride)
    inputs = patches.view(len(a), groups, -1, patches.shape[2]).mT
    outputs, bias = conv.out_channels // groups, conv.bias is not None
    return _Products(inputs, outputs, bias, lambda g: g.reshape(len(g), groups, outputs, -1).mT)


class _Use:
    """One call of a layer: the names of its parameters, their rule, and the layer's output."""

    def __init__(self, names: list[str], rule: _Rule, output: Tensor) -> None:
        self.names, self.rule, self.output = names, rule, output


class _Rules:
    """A network's parameters, split into those with a rule, those with a copy per image, and the rest."""

    def __init__(self, surface: Surface) -> None:
        self.model = surface.model
        self.parameters = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
        self.copied: list[str] = []
        self.sound: set[str] = set(self.parameters)
        self._try(surface.images.images)
        self.rest = [name for name in self.parameters if name not in self.sound]

    def squared_norms(self, images: Tensor, labels: Tensor, cotangents: Cotangents) -> Tensor:
        """The squared norm of each image's gradient, summed over the cotangents s_k (n, C): (n,), float64."""
        logits, uses = self._forward(images)
        count, directions = cotangents(logits.detach(), labels)
        for use in uses:
            use.rule.expect(count)
        for gradients in self._backward(logits, uses, directions):
            for use, gradient in zip(uses, gradients, strict=True):
                use.rule.add(gradient)
        total = sum((use.rule.squared_norms().double() for use in uses), images.new_zeros(len(images)).double())
        for direction in cotangents(logits.detach(), labels)[1] if self.rest else ():
            total += self._slow(images, direction).double().square().sum(1)
        return total

    def jacobians(self, images: Tensor, classes: int) -> Iterator[Tensor]:
        """The Jacobian of all logits, layer by layer: (n C, p), in the order of image and class."""
        logits, uses = self._forward(images)
        units = torch.eye(classes).to(logits).unsqueeze(1).expand(-1, len(images), -1)
        backward = list(self._backward(logits, uses, units))
        for i, use in enumerate(uses):
            yield torch.stack([use.rule.gradients(gradients[i]) for gradients in backward], 1).flatten(0, 1)
        if self.rest:
            yield torch.stack([self._slow(images, unit) for unit in units], 1).flatten(0, 1)

    def _forward(self, images: Tensor) -> tuple[Tensor, list[_Use]]:
        """Logits (n, C), and every use of a layer whose parameters have a rule."""
        copies = {
            name: self.parameters[name].detach().repeat(len(images), *[1] * (self.parameters[name].dim() - 1))
            for name in self.copied
        }
        uses = [_Use([name], _Copies(), copy.requires_grad_()) for name, copy in copies.items()]
        branches: dict[nn.Module, Tensor] = {}

        def used(names: list[str]) -> Callable[..., Tensor]:
            def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
                if not inputs or not isinstance(output, torch.Tensor) or not output.requires_grad:
                    return output
                rule = _rule(module, inputs[0].detach())
                if rule is None or not len(inputs[0]) == len(output) == len(images):
                    return output
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    output = _without_sums(module, inputs[0], output)
                uses.append(_Use(names, rule, output))
                return output

            return hook

        def scaled(block: Any, name: str) -> None:
            """A ConvNeXt block scales the output of its `mlp` by its own parameter, before `drop_path`."""

            def keep(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
                branches[block] = output.detach() if block.use_conv_mlp else output.detach().movedim(-1, 1)

            def use(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
                uses.append(_Use([name], _Scales(branches.pop(block), False, 1), output))

            hooks.append(block.mlp.register_forward_hook(keep))
            hooks.append(block.drop_path.register_forward_hook(use))

        hooks: list[Any] = []
        try:
            for path, module in self.model.named_modules():
                own = [f"{path}.{key}".lstrip(".") for key, p in module._parameters.items() if p is not None]
                if own and all(name in self.sound and name not in copies for name in own):
                    if type(module).__name__ == "ConvNeXtBlock":
                        scaled(module, own[0])
                    else:
                        hooks.append(module.register_forward_hook(used(own)))
            with torch.enable_grad():
                logits = functional_call(self.model, copies, (images,)) if copies else self.model(images)
        finally:
            for hook in hooks:
                hook.remove()
        return logits, uses

    @staticmethod
    def _backward(logits: Tensor, uses: list[_Use], directions: Iterable[Tensor]) -> Iterator[tuple[Tensor, ...]]:
        """For every cotangent (n, C) the gradients at the outputs of all uses."""
        for direction in directions if uses else ():
            yield _gradients(logits, [use.output for use in uses], direction)

    def _slow(self, images: Tensor, direction: Tensor) -> Tensor:
        """Gradients (n, p) of the parameters without a rule."""
        rest = {name: self.parameters[name].detach() for name in self.rest}

        def objective(parameters: dict[str, Tensor], image: Tensor, cotangent: Tensor) -> Tensor:
            return (functional_call(self.model, parameters, (image.unsqueeze(0),))[0] * cotangent).sum()

        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
            try:
                gradients = vmap(grad(objective), (None, 0, 0), chunk_size=64)(rest, images, direction)
            except (RuntimeError, ValueError, NotImplementedError):  # an operation that cannot be batched
                singles = [grad(objective)(rest, *pair) for pair in zip(images, direction, strict=True)]
                gradients = {name: torch.stack([single[name] for single in singles]) for name in rest}
        return torch.cat([gradients[name].reshape(len(images), -1) for name in self.rest], 1)

    def _try(self, images: Tensor) -> None:
        """Find the parameters whose rules agree with autograd on a few images."""
        few = images[:TRIED] if len(images) > 1 else images.repeat(2, *[1] * (images.dim() - 1))
        layers = (m for m in self.model.modules() if isinstance(m, (nn.Linear, nn.modules.conv._ConvNd)))
        weights = {id(p) for layer in layers for p in layer.parameters()}
        # Tokens and position tables, which are broadcast over the images.
        rows = [n for n, p in self.parameters.items() if p.dim() > 1 and len(p) == 1 and id(p) not in weights]
        sound = self._with_copies(rows, few)
        if not sound.issuperset(rows):  # a copy that failed may have spoiled the other rules
            rows = [name for name in rows if name in self._with_copies([name], few)]
            sound = self._with_copies(rows, few)
        self.sound = sound

    def _with_copies(self, names: list[str], few: Tensor) -> set[str]:
        """The parameters whose rules are right if those named have a copy per image; none if these do not fit."""
        self.copied = names
        try:
            return self._sound(few)
        except (RuntimeError, ValueError, IndexError, TypeError):
            if not names:
                raise
            return set()  # a parameter with one row that is used otherwise than by broadcasting

    def _sound(self, few: Tensor) -> set[str]:
        """The parameters used once whose rule gives the right gradient for the first, the last, and all images."""
        logits, uses = self._forward(few)
        slopes = torch.linspace(-1, 2, logits.numel()).to(logits).view_as(logits)
        first, last = torch.zeros_like(slopes), torch.zeros_like(slopes)
        first[0], last[-1] = slopes[0], slopes[-1]
        plain, weights = self.model(few) if self.copied else logits, list(self.parameters.values())
        outputs = [use.output for use in uses]
        calls = [name for use in uses for name in use.names]
        sound = {name for name in calls if calls.count(name) == 1}
        for direction, of in ((first, slice(1)), (last, slice(-1, None)), (slopes, slice(None))) if uses else ():
            exact = _gradients(plain, weights, direction) + _gradients(logits, outputs, direction)
            truth, gradients = dict(zip(self.parameters, exact, strict=False)), exact[len(weights) :]
            for use, gradient in zip(uses, gradients, strict=True):
                expected = torch.cat([truth[name].flatten() for name in use.names])
                if not _same(use.rule.gradients(gradient)[of].sum(0), expected):
                    sound -= set(use.names)
        return sound
