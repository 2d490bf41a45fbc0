from __future__ import annotations

import numpy as np
import pytest
import torch
from engines import tmab
from games import TableGame, model_game
from networks import labelled, twelve_filters

from repairkit.errors import FullMemoryError, ModelWarning
from repairkit.objectives import Accuracy, Probability
from repairkit.repair.attribute import attribute, within_memory
from repairkit.run.context import Run
from repairkit.run.options import Options
from repairkit.run.store import RunStore

HALVED = r"memory ran out \(attribution\): passes now carry 8 images"


class Memory:
    """Counts the images of every pass of a new game; from pass `full_from` on there is no room for more than 10."""

    def __init__(self, monkeypatch, *, full_from: float = np.inf) -> None:
        self.game = model_game(twelve_filters(), Probability(Accuracy()).on(labelled(40)), batch=16)
        self.full_from = full_from
        self.images: list[int] = []
        for name in ("snapshot", "gradients"):
            monkeypatch.setattr(self.game.filters, name, self.watched(getattr(self.game.filters, name)))

    def watched(self, method):
        def run(images, *args, **kwargs):
            self.images.append(len(images))
            if len(images) > 10 and len(self.images) >= self.full_from:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return method(images, *args, **kwargs)

        return run

    def values(self, kept, progress=None):
        options = Options(budget=2000, top=3, contested=6, t0=0.0)
        return attribute(self.game, Run.start(options, store=kept, progress=progress), budget=options.budget, seed=0, t0=0.0)


@pytest.fixture
def kept(tmp_path):
    """A place for an attribution, by name of the network."""
    unfinished = RunStore(tmp_path / "run", {}, command="")
    return unfinished.within


def test_a_run_whose_passes_were_halved_goes_on_with_the_same_bits(monkeypatch, kept):
    whole = Memory(monkeypatch, full_from=8)
    with pytest.warns(ModelWarning, match=HALVED):
        expected = whole.values(kept("whole"))
    assert {*whole.images[:8]} == {16}
    assert max(whole.images[8:]) == 8
    rounds = []

    def interrupted(*_):
        rounds.append(0)
        if len(rounds) == 5:
            raise KeyboardInterrupt

    with pytest.warns(ModelWarning, match=HALVED), pytest.raises(KeyboardInterrupt):
        Memory(monkeypatch, full_from=8).values(kept("stopped"), interrupted)
    rest = Memory(monkeypatch)
    found = rest.values(kept("stopped"))
    assert max(rest.images) == 8, "there is room again, and the last digits would change"
    assert len(rest.images) < len(whole.images) - 8
    for name in ("screen", "value", "half_width", "samples", "standard_error"):
        assert getattr(found, name).tobytes() == getattr(expected, name).tobytes(), name
    assert rest.game.batch == 8
    np.testing.assert_allclose(found.value, Memory(monkeypatch).values(None).value, atol=1e-6)


def test_without_a_checkpoint_an_attribution_begins_again(monkeypatch):
    short = Memory(monkeypatch, full_from=8)
    with pytest.warns(ModelWarning, match=HALVED):
        found = short.values(None)
    roomy = Memory(monkeypatch)
    roomy.game.batch = 8
    assert found.value.tobytes() == roomy.values(None).value.tobytes()


class Crowded(TableGame):
    """Has room for passes of four examples."""

    batch = 8

    def _scores(self, coalitions, examples):
        if self.batch > 4:
            raise FullMemoryError(f"memory ran out in passes of {self.batch} images")
        return super()._scores(coalitions, examples)


@pytest.mark.extended
def test_all_workers_halve_together():
    def values(game, workers):
        return tmab(game, budget=2000, top_k=1, workers=workers).value

    game = Crowded(4, 4)
    with pytest.warns(ModelWarning) as told:
        found = within_memory(game, lambda: values(game, 2), store=None, name="attribution")
    assert [str(each.message) for each in told] == ["memory ran out (attribution): passes now carry 4 images"]
    assert found.tobytes() == values(TableGame(4, 4), 1).tobytes()


def test_a_single_image_that_does_not_fit_is_an_error(kept):
    game = Crowded(4, 4)
    game.batch = 1

    def work():
        raise FullMemoryError("memory ran out")

    with pytest.raises(FullMemoryError):
        within_memory(game, work, store=kept("a"), name="attribution")
    assert kept("a").batch("attribution") is None
