from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from networks import CLASSES, conv_bn_relu, conv_without_bias, randomised
from scipy.stats import norm

from repairkit.data.images import LabelledImages
from repairkit.errors import UsageError
from repairkit.network.classifier import Classifier
from repairkit.network.filters import ConvFilters
from repairkit.network.freezing import baked_copy
from repairkit.network.game import prepared_batches
from repairkit.objectives import Accuracy, SubgroupRecall
from repairkit.repair import selection
from repairkit.repair.selection import Choice, SelectionSearch, eligible, removal_curve
from repairkit.repair.selection_images import SelectionGoal
from repairkit.run.context import Run
from repairkit.run.options import Options
from repairkit.run.store import RunStore
from repairkit.shapley.values import Attribution

SPOILT = (1, 4, 7)
"""Filters without which the labels were made: freezing them is the repair."""


def choose(classifier, filters, found, target, source, **options) -> Choice:
    """A selection with the fields of goal and search as keyword arguments."""
    call = {name: options.pop(name) for name in ("progress", "store") if name in options}
    goal = {name: options.pop(name) for name in ("measure", "guard_weights", "guard_images", "guarded") if name in options}
    wanted = SelectionGoal(target=target, guard=source, **goal)
    return selection.choose(classifier, filters, found, wanted, SelectionSearch(**options), **call)


def coloured(count: int, seed: int, groups: tuple[str, ...]) -> LabelledImages:
    """Images of a colour with noise; labels are filled in later."""
    rng = np.random.default_rng(seed)
    pixels = np.clip(rng.integers(0, 256, (count, 1, 1, 3)) + rng.integers(-60, 61, (count, 8, 8, 3)), 0, 255).astype(np.uint8)
    names = np.array([groups[index % len(groups)] for index in range(count)])
    return LabelledImages(pixels=pixels, labels=np.zeros(count, np.int64), groups=names, classes=CLASSES, name=f"set {seed}")


@dataclass
class Setting:
    """A network that three of its filters spoil, images, and evaluation of baked copies, the slow way."""

    classifier: Classifier
    filters: ConvFilters
    target: LabelledImages
    source: LabelledImages
    known: dict = field(default_factory=dict)

    @property
    def worths(self):
        return SubgroupRecall().on(self.target), Accuracy().on(self.source)

    def evaluate(self, players, images: LabelledImages) -> tuple[np.ndarray, np.ndarray]:
        """Probability of the label and correctness of each image, from a baked copy."""
        key = (frozenset(players), images.name)
        if key not in self.known:
            self.known[key] = self._evaluate(players, images)
        return self.known[key]

    def _evaluate(self, players, images: LabelledImages) -> tuple[np.ndarray, np.ndarray]:
        constants = {self.filters.ids[player]: float(self.filters.constants[player]) for player in players}
        repaired = copy.deepcopy(self.classifier)
        repaired.network = baked_copy(self.classifier.network, constants)
        with torch.no_grad():
            logits = repaired(images.batch(np.arange(len(images)))).double()
        rows = np.arange(len(images))
        return torch.softmax(logits, 1).numpy()[rows, images.labels], logits.argmax(1).numpy() == images.labels

    def measure(self, players, before=(), source_weight: float = 1.0, guarded: str = "accuracy") -> dict[str, float]:
        """All numbers of a step from `before` to `players`."""
        target, target_correct = self.evaluate(players, self.target)
        source, source_correct = self.evaluate(players, self.source)
        target_before, source_before = self.evaluate(before, self.target)[0], self.evaluate(before, self.source)[0]
        original = self.evaluate((), self.source)
        groups = sorted(set(self.target.groups))
        criterion = source_weight * source.mean()
        gain, variance = (
            source_weight * (source - source_before).mean(),
            source_weight**2 * np.var(source - source_before, ddof=1) / len(source),
        )
        recall = 0.0
        for group in groups:
            members = self.target.groups == group
            change = (target - target_before)[members]
            criterion += target[members].mean() / len(groups)
            gain += change.mean() / len(groups)
            variance += np.var(change, ddof=1) / members.sum() / len(groups) ** 2
            recall += target_correct[members].mean() / len(groups)
        lost = original[1].astype(float) - source_correct
        fall = lost if guarded == "accuracy" else original[0] - source
        return {
            "criterion": criterion,
            "gain": gain,
            "standard_error": math.sqrt(variance),
            "target": recall,
            "source": source_correct.mean(),
            "drop_bound": max(
                fall.mean() + norm.ppf(0.9) * fall.std(ddof=1) / math.sqrt(len(fall)), lost.mean(), 1 - 0.1 ** (1 / len(fall))
            )
            if players
            else 0.0,
        }


@pytest.fixture(scope="module")
def setting() -> Setting:
    network = randomised(conv_bn_relu(), seed=6)
    target, source = coloured(50, 1, ("a", "a", "b", "a")), coloured(70, 2, ("c",))
    classifier = Classifier(network, classes=CLASSES)
    filters = ConvFilters(network)
    filters.calibrate(prepared_batches(classifier, target))
    with torch.no_grad():
        network.fc.weight *= 6
        clean = copy.deepcopy(classifier)
        clean.network = baked_copy(network, {filters.ids[player]: float(filters.constants[player]) for player in SPOILT})
        both = [clean(images.batch(np.arange(len(images)))) for images in (target, source)]
        middle = torch.cat(both).diff(dim=1).median()
        network.fc.bias[1] -= middle
    for images, logits in zip((target, source), both, strict=True):
        images.labels[:] = (logits.diff(dim=1)[:, 0] > middle).long().numpy()
        images.labels[::9] = 1 - images.labels[::9]
    filters = ConvFilters(network)
    filters.calibrate(prepared_batches(classifier, target))
    return Setting(classifier, filters, target, source)


def attribution(setting_or_filters, value=None) -> Attribution:
    filters = getattr(setting_or_filters, "filters", setting_or_filters)
    n = len(filters)
    value = np.asarray(value if value is not None else -np.random.default_rng(5).permutation(np.arange(1, n + 1)) / 100.0)
    return Attribution(
        ids=tuple(str(name) for name in filters.ids),
        screen=np.full(n, -1.0),
        value=value,
        half_width=np.zeros(n),
        samples=(~np.isnan(value)).astype(float),
        decided=np.ones(n, dtype=bool),
        harmful=-1,
        end="low",
        top_k=1,
        min_live=0.0,
        delta=0.05,
        seed=0,
        engine="tmab",
    )


def forward_selection(
    setting: Setting,
    pool: list[int],
    *,
    most: int,
    again: int,
    guard: float,
    errors: float,
    guarded: str = "accuracy",
    weights: tuple[float, ...] = (1.0,),
) -> list[int]:
    """Forward selection, literally."""
    frozen: list[int] = []
    pool = list(pool)
    beside: dict[int, list[int]] = {}  # what was frozen when a player was last tried
    for weight in weights:
        while len(frozen) < most:
            open_ = [player for player in pool if player not in frozen]
            if frozen:
                last = {player: setting.measure([*beside[player], player], beside[player], weight)["gain"] for player in open_}
                open_ = sorted(open_, key=lambda player: -last[player])[:again]
            beside.update({player: list(frozen) for player in open_})
            found = {player: setting.measure([*frozen, player], frozen, weight, guarded) for player in open_}
            before = len(frozen)
            for player in sorted(open_, key=lambda player: -found[player]["gain"])[:8]:
                if found[player]["gain"] <= errors * found[player]["standard_error"]:
                    break
                if found[player]["drop_bound"] <= guard + 1e-12:
                    frozen.append(player)
                    break
                pool.remove(player)
            if len(frozen) == before:
                break
    return frozen


def check_steps(setting: Setting, choice: Choice) -> None:
    players = [step.player for step in choice.path[1:]]
    assert choice.path[0].player is None
    for count, step in enumerate(choice.path):
        expected = setting.measure(players[:count], players[: max(count - 1, 0)])
        assert step.filters == count
        for name, value in expected.items():
            assert getattr(step, name) == pytest.approx(value, abs=2e-6), (count, name)
    assert choice.players == players[: choice.chosen]


@pytest.mark.parametrize(
    ("guard", "errors", "again", "most"),
    [
        (1.0, 1.0, 12, 16),
        (1.0, 0.0, 12, 4),
        (0.0, 0.0, 12, 16),
        (0.02, 0.0, 12, 16),
        (0.05, 1.0, 2, 3),
        (1.0, 0.0, 1, 16),
        (1.0, 3.0, 12, 16),
    ],
)
def test_forward_selection_is_the_literal_one(setting, guard, errors, again, most):
    found = attribution(setting)
    choice = choose(
        setting.classifier,
        setting.filters,
        found,
        *setting.worths,
        max_drop=guard,
        errors=errors,
        retries=again,
        max_filters=most,
        batch=16,
    )
    expected = forward_selection(setting, found.harmful_players().tolist(), most=most, again=again, guard=guard, errors=errors)
    assert choice.players == expected
    assert choice.chosen == len(expected) <= most
    check_steps(setting, choice)


def test_the_settings_above_reach_every_way_to_stop(setting):
    found = attribution(setting)

    def reason(**options) -> str:
        return choose(setting.classifier, setting.filters, found, *setting.worths, **options).reason

    assert "not more than 1 standard error" in reason(max_drop=1.0)
    assert reason(max_drop=1.0, errors=0.0, max_filters=2) == "the limit of 2 filters was reached"
    assert "break the guard" in reason(max_drop=0.0, errors=-1e9)
    assert reason(max_drop=1.0, errors=-1e9, candidates=2) == "there is no further candidate"


def test_it_repairs_what_was_spoilt(setting):
    found = attribution(setting)
    choice = choose(setting.classifier, setting.filters, found, *setting.worths, max_drop=1.0)
    assert len(choice.players) > 1
    assert set(choice.players) & set(SPOILT)
    assert choice.path[choice.chosen].criterion > choice.path[0].criterion
    for step in choice.path[1:]:
        assert step.gain > step.standard_error


@pytest.mark.parametrize("guard", [0.0, 0.02, 0.05])
def test_the_guard_may_hold_the_mean_probability_of_the_source_s_labels(setting, guard):
    found = attribution(setting)
    options = {"max_drop": guard, "errors": 0.0, "retries": 12, "guard_images": None}
    choice = choose(setting.classifier, setting.filters, found, *setting.worths, **options, guarded="probability")
    pool = eligible(setting.filters, found, 40, cautious=True)
    assert choice.players == forward_selection(setting, pool, most=16, again=12, guard=guard, errors=0.0, guarded="probability")
    for count, step in enumerate(choice.path[1:], start=1):
        expected = setting.measure(choice.players[:count], guarded="probability")["drop_bound"]
        assert step.drop_bound == pytest.approx(expected, abs=2e-6)


@pytest.mark.parametrize("strategy", ["forward", "prefix"])
def test_gains_in_bfloat16_leave_the_guard_in_float32(setting, strategy):
    options = {"strategy": strategy, "max_drop": 1.0, "max_filters": 3}
    with torch.autocast("cpu", dtype=torch.bfloat16):  # of a caller
        choice = choose(setting.classifier, setting.filters, attribution(setting), *setting.worths, **options, precision="bfloat16")
    assert len(choice.path) > 1
    players = [step.player for step in choice.path[1:]]
    for count, step in enumerate(choice.path):
        expected = setting.measure(players[:count])
        for name in ("source", "drop_bound"):
            assert getattr(step, name) == pytest.approx(expected[name], abs=1e-9), name
        assert 1e-7 < abs(step.criterion - expected["criterion"]) < 0.02


@pytest.mark.parametrize(("weights", "guard"), [((8.0, 1.0, 0.0), 0.1), ((4.0, 0.5, 0.0), 0.05), ((20.0, 0.0), 1.0)])
def test_the_source_may_weigh_less_once_no_filter_gains(setting, weights, guard):
    found = attribution(setting)
    options = {"max_drop": guard, "errors": 1.0, "retries": 3, "guard_images": None}
    choice = choose(setting.classifier, setting.filters, found, *setting.worths, **options, guard_weights=weights)
    pool = eligible(setting.filters, found, 40, cautious=True)
    assert choice.players == forward_selection(setting, pool, most=16, again=3, guard=guard, errors=1.0, weights=weights)
    at_first, at_last = (
        choose(setting.classifier, setting.filters, found, *setting.worths, **options, guard_weights=each).players
        for each in (weights[:1], weights[-1:])
    )
    assert choice.players[: len(at_first)] == at_first
    if guard < 1:
        assert len(choice.players) > max(len(at_first), len(at_last))  # what costs little is taken while the guard has room


def test_eight_filters_are_held_against_the_guard_before_choosing_gives_up(setting):
    """Each costs a pass over the whole source; under a guard of 0 none can pass."""
    players = np.arange(10)
    value = np.where(np.isin(np.arange(len(setting.filters)), players), -1.0, 1.0)
    options = {"max_drop": 0.0, "errors": -1e9, "candidates": len(players), "guard_images": None}
    choice = choose(setting.classifier, setting.filters, attribution(setting, value), *setting.worths, **options)
    pool = eligible(setting.filters, attribution(setting, value), len(players), cautious=True)
    images, source = len(setting.target) + len(setting.source), len(setting.source)
    assert len(pool) > 8
    assert choice.chosen == 0
    assert choice.passes == pytest.approx(images * (1 + setting.filters.shares[pool].sum()) + source * (1 + 8))


@pytest.mark.parametrize("guard", [0.0, 0.03, 0.1, 1.0])
def test_prefix_takes_the_most_harmful_first_and_the_best_count_under_the_guard(setting, guard):
    value = np.full(10, -0.001)
    for rank, player in enumerate((7, 1, 0, 4)):
        value[player] = -1.0 + 0.1 * rank
    found = attribution(setting, value)
    choice = choose(setting.classifier, setting.filters, found, *setting.worths, strategy="prefix", max_drop=guard, max_filters=6)
    order = found.harmful_players().tolist()
    assert order[:4] == [7, 1, 0, 4]
    assert [step.player for step in choice.path] == [None, *order[:6]]
    check_steps(setting, choice)
    allowed = [count for count in range(7) if setting.measure(order[:count])["drop_bound"] <= guard + 1e-12]
    assert choice.chosen == max(allowed, key=lambda count: setting.measure(order[:count])["criterion"])


def test_only_the_most_harmful_are_candidates(setting):
    found = attribution(setting)
    for candidates in (1, 3):
        choice = choose(setting.classifier, setting.filters, found, *setting.worths, candidates=candidates, max_drop=1.0, errors=-1e9)
        assert set(choice.players) == set(found.harmful_players(candidates).tolist())


def test_filters_without_a_harmful_value_are_never_candidates(setting):
    value = np.full(10, np.nan)
    value[[2, 5]] = -0.1, 0.1
    assert eligible(setting.filters, attribution(setting, value), 40) == [2]
    nobody = choose(setting.classifier, setting.filters, attribution(setting, np.full(10, np.nan)), *setting.worths)
    assert (nobody.chosen, nobody.players, len(nobody.path)) == (0, [], 1)
    check_steps(setting, nobody)


def test_filters_that_plain_weights_cannot_hold_are_never_candidates():
    network = randomised(conv_without_bias())
    filters = ConvFilters(network)
    filters.calibrate([torch.rand(4, 3, 8, 8)])
    found = attribution(filters, -np.arange(10, 0, -1.0))
    assert {filters.ids[player].layer for player in found.harmful_players(4)} == {"conv1"}
    assert eligible(filters, found, 3) == [4, 5, 6]


def test_gains_may_be_measured_on_some_source_images_but_the_guard_sees_all(setting):
    found = attribution(setting)
    choice = choose(setting.classifier, setting.filters, found, *setting.worths, guard_images=20, max_drop=0.2, errors=0.0)
    assert choice.chosen > 0
    for count, step in enumerate(choice.path):
        expected = setting.measure(choice.players[:count])
        for name in ("target", "source", "drop_bound"):
            assert getattr(step, name) == pytest.approx(expected[name], abs=1e-9), name
    assert choice.path[0].criterion != pytest.approx(setting.measure([])["criterion"], abs=1e-4)


@pytest.mark.parametrize("strategy", ["forward", "prefix"])
def test_passes_are_those_that_were_made(setting, strategy, monkeypatch):
    made = 0.0
    filters = setting.filters
    forward, snapshot, forward_from = filters.forward, filters.snapshot, filters.forward_from

    def count(passes: float) -> None:
        nonlocal made
        made += passes

    monkeypatch.setattr(filters, "forward", lambda images, live: (count(len(images)), forward(images, live))[1])
    monkeypatch.setattr(filters, "snapshot", lambda images, live: (count(len(images)), snapshot(images, live))[1])

    def counted_from(kept, site, live, rows=None):
        logits = forward_from(kept, site, live, rows)
        count(len(logits) * filters.shares[filters.sites[site].start])
        return logits

    monkeypatch.setattr(filters, "forward_from", counted_from)
    told = []
    choice = choose(
        setting.classifier,
        filters,
        attribution(setting),
        *setting.worths,
        strategy=strategy,
        max_drop=1.0,
        progress=lambda part, passes, planned: told.append((part, passes)),
    )
    assert choice.passes == pytest.approx(made)
    assert told[-1][0] == "choosing"
    assert [passes for _, passes in told] == sorted(passes for _, passes in told)
    assert told[-1][1] <= choice.passes


@pytest.mark.filterwarnings("ignore::repairkit.errors.ModelWarning")
def test_an_untraceable_network_chooses_the_same_as_its_traceable_twin(setting):
    class Branching(type(setting.classifier.network)):
        def forward(self, x):
            return super().forward(x) if x.sum() < math.inf else x

    network = copy.deepcopy(setting.classifier.network)
    network.__class__ = Branching
    filters = ConvFilters(network)
    assert not filters.can_rerun
    filters.set_constants(setting.filters.constants)
    classifier = Classifier(network, classes=CLASSES)
    choice = choose(classifier, filters, attribution(filters), *setting.worths, max_drop=1.0, max_filters=2)
    assert choice.passes > 0
    assert choice.chosen <= 2


def test_the_removal_curve_is_that_of_baked_copies(setting):
    players = [7, 1, 0, 4, 9]
    curve = removal_curve(setting.classifier, setting.filters, players, (0, 1, 3, 5, 8), setting.worths, Run.start(Options(batch=16)))
    assert [count for count, _, _ in curve] == [0, 1, 3, 5]
    for count, target, source in curve:
        expected = setting.measure(players[:count])
        assert target == pytest.approx(expected["target"])
        assert source == pytest.approx(expected["source"])


def test_the_users_network_is_never_changed(setting):
    before = copy.deepcopy(setting.classifier.state_dict())
    choose(setting.classifier, setting.filters, attribution(setting), *setting.worths, max_drop=1.0)
    assert all(torch.equal(value, before[key]) for key, value in setting.classifier.state_dict().items())
    assert not any(module._forward_hooks for module in setting.classifier.modules())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strategy": "greedy"}, "strategy must be 'forward' or 'prefix', got 'greedy'"),
        ({"max_drop": -0.1}, "max_drop must not be negative"),
        ({"guard_weights": ()}, "expected one guard weight or more"),
        ({"max_filters": 0}, "must be at least 1"),
        ({"candidates": 0}, "must be at least 1"),
        ({"retries": 0}, "must be at least 1"),
    ],
)
def test_bad_settings_are_named(setting, options, message):
    with pytest.raises(UsageError, match=message):
        choose(setting.classifier, setting.filters, attribution(setting), *setting.worths, **options)


def test_gains_can_be_measured_in_another_unit(setting):
    """The clipped margin of the label over the next, as an attack needs it: probabilities of what is surely wrong are flat."""
    labels = np.concatenate([setting.target.labels, setting.source.labels])

    def margins(logits, examples):
        difference = logits.double().diff(dim=1)[:, 0].numpy()
        return np.clip(np.where(labels[examples] == 1, difference, -difference), -2, 2)

    found = choose(
        setting.classifier,
        setting.filters,
        attribution(setting),
        *setting.worths,
        max_drop=1.0,
        guard_images=None,
        measure=margins,
    )
    plain = choose(setting.classifier, setting.filters, attribution(setting), *setting.worths, max_drop=1.0, guard_images=None)
    assert found.chosen > 0
    weights = np.concatenate([worth.weights for worth in setting.worths])
    for step in (0, found.chosen):
        constants = {setting.filters.ids[player]: float(setting.filters.constants[player]) for player in found.players[:step]}
        repaired = copy.deepcopy(setting.classifier)
        repaired.network = baked_copy(setting.classifier.network, constants)
        with torch.no_grad():
            logits = torch.cat([repaired(images.batch(np.arange(len(images)))) for images in (setting.target, setting.source)])
        assert found.path[step].criterion == pytest.approx(float(weights @ margins(logits, np.arange(len(labels)))), abs=1e-4)
    assert found.path[0].criterion != pytest.approx(plain.path[0].criterion, abs=1e-3)


@pytest.mark.parametrize("strategy", ["forward", "prefix"])
def test_choosing_goes_on_from_what_was_kept_to_the_same_bits(setting, tmp_path, strategy, monkeypatch):
    arguments = (
        setting.classifier,
        setting.filters,
        attribution(setting),
        SubgroupRecall().on(setting.target),
        Accuracy().on(setting.source),
    )
    options = {"strategy": strategy, "candidates": 6, "max_filters": 4, "max_drop": 0.5}
    whole = choose(*arguments, **options)
    kept = RunStore(tmp_path / "run", {}, command="again").within("repaired")

    def stop(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        choose(*arguments, **options, store=kept, progress=stop)
    passes = []
    monkeypatch.setattr(ConvFilters, "forward", counted(ConvFilters.forward, passes))
    monkeypatch.setattr(ConvFilters, "snapshot", counted(ConvFilters.snapshot, passes))
    choose(*arguments, **options)
    afresh = len(passes)
    assert choose(*arguments, **options, store=kept) == whole
    assert 0 < len(passes) - afresh < afresh
    before = len(passes)
    assert choose(*arguments, **options, store=kept) == whole
    assert len(passes) == before


def counted(function, calls):
    def counting(*arguments, **keywords):
        calls.append(1)
        return function(*arguments, **keywords)

    return counting
