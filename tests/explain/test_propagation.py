"""Rules by kind of module, and the check that nothing is lost on the way."""

from __future__ import annotations

import numpy as np
import pytest

from locum.core.errors import InvalidData, LocumError, UnsupportedModule
from locum.explain._propagation import Conservation, RuleTable


class Layer: ...


class Wide(Layer): ...


class Other: ...


def test_the_nearest_class_counts_and_a_name_stands_for_a_class_that_need_not_be_there():
    table = RuleTable({Layer: "layer", "Other": "by name"})
    assert table.rule(Layer(), "a") == table.rule(Wide(), "b") == "layer"
    assert table.rule(Other(), "c") == "by name"
    assert RuleTable({Layer: 1, Wide: 2}).rule(Wide(), "b") == 2


def test_a_module_without_a_rule_is_named():
    with pytest.raises(UnsupportedModule, match=r"no rule for block.1 \(Other\); there are rules for Layer, Wide"):
        RuleTable({Layer: 1, "Wide": 2}).rule(Other(), "block.1")
    assert issubclass(UnsupportedModule, ValueError)
    assert not issubclass(UnsupportedModule, InvalidData)


def test_gaps_are_relative_and_the_step_is_named():
    found = Conservation()
    assert found.gap == 0
    found.note("first", 2.0, 2.0)
    found.note("second", 2.0, 1.5)
    found.note("third", 0.0, 0.0)
    found.note("fourth", 1.0, 1.5, scale=10)
    np.testing.assert_allclose(found.gaps, [0, 0.25, 0, 0.05])
    assert found.gap == 0.25
    found.check(0.3)
    with pytest.raises(LocumError, match=r"goes into second and .* differ by 0.25"):
        found.check(0.1)
    found.note("broken", np.nan, 1.0)
    with pytest.raises(LocumError, match="broken"):
        found.check(0.3)
