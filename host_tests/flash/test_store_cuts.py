"""No power cut loses an acknowledged change of the token store or leaves half of one."""

import pytest
from cut_power import CHIPS, cut_power

NAMES = (
    "first_start",
    "put",
    "put_new_parent",
    "delete",
    "learn",
    "clear_cache",
    "new_day",
    "journal_full",
    "update_small",
    "update_large",
    "settings",
    "settings_often",
    "merge",
    "full_list",
)


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("name", NAMES)
def test_every_cut_leaves_a_whole_state(chip, name, tell):
    points, said = cut_power(chip, "store_cuts", name)
    assert points >= 3
    tell(f"{chip} {name}: {said}")
