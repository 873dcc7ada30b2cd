"""Checks of behaviour for targets, stand-ins and measures: Locum's own pass them, and so can yours.

`check_target`, `check_surrogate` and `check_fidelity` run all checks that are for a thing; `target_checks`,
`surrogate_checks` and `fidelity_checks` give them one by one as (name, callable), so that a test runner shows each:

    import pytest
    from locum.testing import surrogate_checks

    @pytest.mark.parametrize(("name", "check"), surrogate_checks(MyModel()))
    def test_my_model(name, check):
        check()
"""

from __future__ import annotations

from locum.testing._checks import CheckFailed
from locum.testing.fidelity import check_fidelity, fidelity_checks
from locum.testing.surrogate import check_surrogate, surrogate_checks
from locum.testing.target import check_target, target_checks

__all__ = [
    "check_target",
    "check_surrogate",
    "check_fidelity",
    "target_checks",
    "surrogate_checks",
    "fidelity_checks",
    "CheckFailed",
]
