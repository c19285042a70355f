"""Random interleavings of everything that can happen to the authorization core.

TAPAUTH_INTERLEAVINGS sets how many interleavings are tried (2,000 by default).
"""

import os

from auth_watched import WatchedModel
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tools import charts

INTERLEAVINGS = int(os.environ.get("TAPAUTH_INTERLEAVINGS", "2000"))


@settings(
    max_examples=INTERLEAVINGS,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(
    seed=st.integers(0, 2**32),
    steps=st.lists(st.integers(0, 2**32), min_size=60, max_size=100),
)
def test_any_interleaving(seed, steps):
    model = WatchedModel(seed)
    for step in steps:
        model.step(step)
    model.finish(seed)
    assert model.auth.token_ways <= charts.ways(charts.TOKEN)
    assert model.auth.evse_ways <= charts.ways(charts.EVSE)
