"""Contract of an expansion.

In a test file of your package:

    from mmbench.testing.expansions import ExpansionContract

    class TestMine(ExpansionContract):
        expansion = "mine"
        quick = {"learning_steps": 2}  # options that make it fast
        variants = ({"factor": 3.0},)  # options to test in addition to the defaults and the axes
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, get_args

import pytest
import torch

from mmbench.errors import ConfigError, UndefinedError
from mmbench.expansions.apply import expand
from mmbench.expansions.base import EXPANSIONS, Preserves
from mmbench.models.base import MODELS
from mmbench.models.reading import architecture_of
from mmbench.testing.cells import (
    DIGITS,
    FAMILIES,
    PARTED,
    Cell,
    assert_the_function_is_kept,
    axes_of,
    parting,
    same,
    shares_with_gradients,
    wild_initialisation,
)
from mmbench.testing.models import CLEARLY, NETWORKS, SHAPE, difference, images


class ExpansionContract:
    """Tests of an expansion. A subclass sets `expansion`; it may set `quick` and `variants` or override `cells`."""

    expansion: ClassVar[str]
    quick: ClassVar[Mapping[str, Any]] = {}
    """Options that make it fast and do not change the larger architecture."""
    variants: ClassVar[Sequence[Mapping[str, Any]]] = ()
    """Options to test on the small network of every family; the defaults and each axis are tested on every network."""

    @classmethod
    def operators(cls) -> list[str]:
        """The names of the operators to test."""
        return [cls.expansion]

    @classmethod
    def cells(cls) -> list[Cell]:
        """All cells to test, defined or not."""
        return [
            Cell(cls.expansion, options, name, cls.quick)
            for name in NETWORKS
            for options in [*axes_of(cls.expansion), *(cls.variants if name in FAMILIES else ())]
        ]

    @classmethod
    def one_per_family(cls) -> list[Cell]:
        """For each operator and family, the first cell that is defined."""
        first = {(cell.operator, cell.family): cell for cell in reversed(cls.cells()) if cell.is_defined()}
        return sorted(first.values(), key=str)

    @classmethod
    def one_per_axis(cls) -> list[Cell]:
        """For each operator, family and axis, the first cell that is defined."""
        cells = [cell for cell in reversed(cls.cells()) if cell.is_defined()]
        return sorted({(c.operator, c.family, c.options.get("axis")): c for c in cells}.values(), key=str)

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Run a test on every operator, on every cell that is defined, or on one cell per family or axis."""
        choices: dict[str, Any] = {
            "operator": self.operators,
            "cell": lambda: [cell for cell in self.cells() if cell.is_defined()],
            "family_cell": self.one_per_family,
            "axis_cell": self.one_per_axis,
        }
        for name, choose in choices.items():
            if name in metafunc.fixturenames:
                metafunc.parametrize(name, choose(), ids=str)

    def test_it_declares_what_it_does(self, operator: str) -> None:
        """What it preserves, its arm, its axes and families; and its options recreate it."""
        cls = EXPANSIONS[operator]
        assert cls.preserves in get_args(Preserves)
        assert cls.arm in ("expansion", "control")
        assert set(cls.families or FAMILIES) <= set(FAMILIES)
        assert cls.__doc__
        expansion = cls()
        assert EXPANSIONS.create(expansion.options()) == expansion
        assert expansion.describe()["name"] == operator
        assert expansion.label

    def test_declared_families_and_axes_are_those_that_are_defined(self, operator: str) -> None:
        """Each family, and each axis on some family."""
        cls = EXPANSIONS[operator]
        cells = [cell for cell in self.cells() if cell.operator == operator and cell.is_defined()]
        assert {cell.family for cell in cells} == set(cls.families or FAMILIES)
        default = getattr(cls(), "axis", None)
        assert {cell.options.get("axis", default) for cell in cells} == set(cls.axes() or [None])

    def test_what_is_not_defined_says_why(self, operator: str) -> None:
        """For a network or axis that does not fit, `target` and `expand` raise an `UndefinedError` with a reason."""
        undefined = [cell for cell in self.cells() if cell.operator == operator and not cell.is_defined()]
        for cell in undefined:
            with pytest.raises(UndefinedError) as from_target:
                cell.target()
            assert len(str(from_target.value)) > 20, f"{cell}: no reason"
        for cell in undefined[-1:]:
            with pytest.raises(UndefinedError) as from_expand:
                cell.expand()
            assert str(from_expand.value) == str(from_target.value)

    def test_larger_sizes_are_computed_without_building_a_network(
        self, operator: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """And does not depend on the random state."""

        def build(*_: Any) -> None:
            raise AssertionError("a network was built")

        cells = [cell for cell in self.cells() if cell.operator == operator and cell.is_defined()]
        for family in FAMILIES:
            monkeypatch.setattr(MODELS[family], "build", build)
        state = torch.get_rng_state()
        targets = [cell.target() for cell in cells]
        assert torch.equal(torch.get_rng_state(), state)
        torch.rand(1)
        assert targets == [cell.target() for cell in cells]

    def test_it_keeps_the_function_as_it_declares(self, cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
        """To 1e-10 in float64 if `exact` or `evaluation`; an operator with `no` changes it clearly."""
        base = cell.base()
        with monkeypatch.context() as patch:
            wild_initialisation(patch)
            large = cell.expand(base)
        preserves = EXPANSIONS[cell.operator].preserves
        if preserves in ("exact", "evaluation"):
            assert_the_function_is_kept(base, large, train=preserves == "exact")
        else:
            change = difference(base, large)
            assert math.isfinite(change)
            assert preserves != "no" or change > CLEARLY

    def test_an_exact_operator_keeps_the_function_in_float32(self, family_cell: Cell) -> None:
        """To rounding."""
        if EXPANSIONS[family_cell.operator].preserves in ("exact", "evaluation"):
            base = family_cell.base(torch.float32)
            with torch.no_grad():
                largest = float(base(images(dtype=torch.float32)).abs().max())
            assert difference(base, family_cell.expand(base)) <= 1e-5 * (1 + largest)

    def test_the_network_is_that_of_its_target(self, axis_cell: Cell) -> None:
        """It is read as the target, has its parameter count, and can be rebuilt from the target and its state."""
        large, target = axis_cell.expand(), axis_cell.target().architecture
        assert architecture_of(large)[0] == target
        assert target.parameters(SHAPE) == sum(p.numel() for p in large.parameters())
        rebuilt = target.build(SHAPE).double()
        rebuilt.load_state_dict(large.state_dict(), strict=True)
        assert difference(large, rebuilt) == 0.0

    def test_no_tensor_shrinks(self, cell: Cell) -> None:
        """Every block of the larger network is at least as large as the one that it continues; no block is lost."""
        base = cell.architecture
        for step, larger in EXPANSIONS[cell.operator](**cell.options).steps(base, SHAPE):
            arrangement = step.arrangement(base, larger, SHAPE)
            origins = {origin for origin in arrangement.values() if origin}
            assert origins == {block for stage in base.blocks() for block in stage}
            old, new = base.table(SHAPE), larger.table(SHAPE)
            for name in new.tensors:
                block = next((b for b in sorted(arrangement, key=len, reverse=True) if name.startswith(f"{b}.")), "")
                origin = arrangement[block] if block else ""
                if origin is not None:
                    before = old.shape(origin + name.removeprefix(block))
                    assert all(a >= b for a, b in zip(new.shape(name), before, strict=True)), name
            assert (larger.parameters(SHAPE) > base.parameters(SHAPE)) == bool(step.axes())
            base = larger

    def test_the_small_network_is_left_and_shares_no_memory(self, family_cell: Cell) -> None:
        """Neither its gradients, its mode nor the global random state change; the larger one has the same mode."""
        for training in (False, True):
            base = family_cell.base().train(training)
            base(images()).sum().backward()
            before, gradients = copy.deepcopy(base), [p.grad.clone() for p in base.parameters() if p.grad is not None]
            random = torch.get_rng_state()
            large = family_cell.expand(base)
            assert torch.equal(torch.get_rng_state(), random)
            with torch.no_grad():
                for tensor in large.state_dict().values():
                    tensor.add_(1)
            assert same(base, before)
            kept = [p.grad for p in base.parameters() if p.grad is not None]
            assert all(torch.equal(a, b) for a, b in zip(kept, gradients, strict=True))
            assert all(p.grad is None and p.requires_grad for p in large.parameters())
            assert [m.training for m in base.modules()] == [m.training for m in before.modules()]
            assert {m.training for m in large.modules()} == {training}

    def test_the_seed_decides_all_draws(self, family_cell: Cell) -> None:
        """And the global random state decides none."""
        base = family_cell.base()
        first = family_cell.expand(base, seed=3)
        torch.rand(11)
        assert same(first, family_cell.expand(base, seed=3))

    def test_dtype_and_device_are_kept(self, family_cell: Cell) -> None:
        """For float64 and bfloat16, and on a GPU, if there is one."""
        for device in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
            for dtype in (torch.float64, torch.bfloat16):
                large = family_cell.expand(family_cell.base(dtype).to(device))
                tensors = [t for t in large.state_dict().values() if t.is_floating_point()]
                assert {(t.dtype, t.device.type) for t in tensors} == {(dtype, device)}
                with torch.no_grad():
                    assert large(images(dtype=dtype).to(device)).isfinite().all()

    def test_data_are_asked_for_and_used_only_where_they_are_declared(self, family_cell: Cell) -> None:
        """An operator with `needs_data` raises without data; the results of others do not depend on the data."""
        base, options = family_cell.base(), {**family_cell.quick, **family_cell.options}
        if EXPANSIONS[family_cell.operator].needs_data:
            with pytest.raises(ConfigError, match=rf"{family_cell.operator} needs training data: give data="):
                expand(base, family_cell.operator, **options)
        else:
            assert same(family_cell.expand(base), expand(base, family_cell.operator, **options))

    def test_a_budget_is_met(self, operator: str) -> None:
        """Within the tolerance, on the default network of each family, or the error gives the reason."""
        if "budget" not in EXPANSIONS[operator].model_fields:
            return
        met = []
        for cell in self.one_per_family():
            for budget in (1.35, 2.0, 4.0) if cell.operator == operator else ():
                base = MODELS[cell.family]()
                options = {**cell.quick, **cell.options, "budget": budget, "tolerance": 0.05}
                expansion = EXPANSIONS[operator](**options)
                try:
                    count = expansion.target(base, DIGITS).architecture.parameters(DIGITS)
                except UndefinedError as error:
                    assert len(str(error)) > 20, f"{cell}: no reason"
                    continue
                assert abs(count / (budget * base.parameters(DIGITS)) - 1) <= 0.05
                met.append((base, expansion, count))
        assert met, "no budget can be met on any family"
        base, expansion, count = met[0]
        data = images(dtype=torch.float32, shape=DIGITS), torch.arange(16) % DIGITS.classes
        large = expand(base.build(DIGITS), expansion, data=data)
        assert sum(p.numel() for p in large.parameters()) == count

    def test_new_weights_learn_in_the_first_steps(self, axis_cell: Cell) -> None:
        """In every tensor that is new or has grown, most entries get a gradient within three steps."""
        if EXPANSIONS[axis_cell.operator].arm == "control":
            return
        shares = shares_with_gradients(axis_cell)
        assert shares, "no tensor is new or has grown"
        # Some ReLU units may be dead from the start, more if the function is not kept.
        limit = 0.7 if EXPANSIONS[axis_cell.operator].preserves == "exact" else 0.5
        assert min(shares.values()) > limit, shares

    def test_every_new_unit_becomes_different_from_every_other(self, axis_cell: Cell) -> None:
        """Within fifty steps of training, in every matrix; twins that never part are no new capacity."""
        if EXPANSIONS[axis_cell.operator].arm == "control":
            return
        shares = parting(axis_cell)
        assert {label: share for label, share in shares.items() if not share > PARTED} == {}
