"""No power cut takes what small files hold: the day, PINs, a configuration, rpc's tables."""

import pytest
from cut_power import CHIPS, cut_power

# Programs and erases of a record are cut points, each of them in four ways.
LEAST = {"day": 700, "rpc_tables": 480, "login": 120, "trial": 100}


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("name", LEAST)
def test_every_cut_leaves_a_whole_file(chip, name, tell):
    points, said = cut_power(chip, "file_cuts", name)
    assert points >= LEAST[name]
    tell(f"power cuts, {chip}, {name}: {said}")


def test_the_rig_catches_a_change_that_is_not_safe():
    for name in ("careless_order", "careless_answer"):
        with pytest.raises(AssertionError, match="cut [0-9]+ of [0-9]+"):
            cut_power("rp2", "file_cuts", name)
