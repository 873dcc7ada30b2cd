"""Networks as forecasters: what they contain they learn, units do not matter, and the same seed gives the same numbers."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from locum.core.errors import InvalidData  # noqa: E402
from locum.emulate import LSTM, NBeats, NetworkForecaster  # noqa: E402

T = np.arange(400)
WAVES = np.stack([np.sin(T / 5), np.cos(T / 3) + 0.2 * np.sin(T / 5)], axis=1)
SMALL = {"rows": 16, "epochs": 12, "learning_rate": 3e-3}


@pytest.mark.parametrize("network", [NBeats(blocks=2, width=32), LSTM(hidden=24, layers=1)], ids=["N-BEATS", "LSTM"])
def test_waves_are_foretold_better_than_by_their_last_row(network):
    model = NetworkForecaster(network, **SMALL, random_state=1).fit(WAVES[:350])
    said = model.forecast(WAVES[:350], 20)
    error, naive = ((one - WAVES[350:370]) ** 2 for one in (said, WAVES[349]))
    assert said.shape == (20, 2)
    assert error.mean() < 0.1 * naive.mean()
    assert model.history_.losses[-1] < 0.1 * model.history_.losses[0]
    again = NetworkForecaster(network, **SMALL, random_state=1).fit(WAVES[:350])
    np.testing.assert_array_equal(again.forecast(WAVES[:350], 20), said)
    assert np.abs(NetworkForecaster(network, **SMALL, random_state=2).fit(WAVES[:350]).forecast(WAVES, 5)).max() > 0


def test_units_do_not_matter_and_only_the_window_is_read():
    settings = {"rows": 8, "epochs": 2}
    plain = NetworkForecaster(NBeats(2, 2, 16), **settings).fit(WAVES)
    scaled = NetworkForecaster(NBeats(2, 2, 16), **settings).fit(100 * WAVES + 7)
    said = plain.forecast(WAVES, 6)
    np.testing.assert_allclose(scaled.forecast(100 * WAVES + 7, 6), 100 * said + 7, rtol=1e-3, atol=1e-2)
    np.testing.assert_array_equal(plain.forecast(WAVES[-8:], 6), said)
    rolled = plain.forecast(np.vstack([WAVES, said[:1]]), 5)
    np.testing.assert_allclose(rolled, said[1:], atol=1e-5)


def test_what_a_block_explains_is_taken_off_and_forecasts_add_up():
    module = NBeats(blocks=3, layers=2, width=8).module(5, 2)
    x = torch.randn(4, 5, 2, generator=torch.Generator().manual_seed(0))
    rest, total = x.flatten(1), 0.0
    for block in module.blocks:
        held = block.body(rest)
        total, rest = total + block.ahead(held), rest - block.back(held)
    torch.testing.assert_close(module(x), total)
    assert module.blocks[0].back[0].weight.shape == (5, 8)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: NetworkForecaster("nbeats").fit(WAVES), r"network= as NBeats\(...\) or LSTM"),
        (lambda: NetworkForecaster(rows=0).fit(WAVES), "rows= to be a whole"),
        (lambda: NetworkForecaster(learning_rate=0).fit(WAVES), "learning_rate"),
        (lambda: NetworkForecaster(rows=500).fit(WAVES), "500|501"),
        (lambda: NBeats(blocks=0), "blocks= to be a whole"),
        (lambda: LSTM(hidden=0), "hidden= to be a whole"),
        (lambda: NetworkForecaster(rows=4, epochs=1).fit(WAVES).forecast(WAVES[:3], 2), "4 finite rows or more of 2 columns"),
        (lambda: NetworkForecaster(rows=4, epochs=1).fit(WAVES).forecast(WAVES[:, :1], 2), "4 finite rows or more"),
    ],
)
def test_what_cannot_be_used_is_refused(call, message):
    with pytest.raises(InvalidData, match=message):
        call()
