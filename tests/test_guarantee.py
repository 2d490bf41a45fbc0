from __future__ import annotations

import re

import numpy as np
import pytest
from games import TableGame, second_order
from oracles import truncated_values
from scipy.stats import binomtest

from repairkit.errors import BudgetError, GameError, UsageError
from repairkit.shapley import FunctionGame, exact_values
from repairkit.shapley.guarantee import Race, audit_chances, border, certify, clopper_pearson, draw_stratified, look, run_rounds


def additive(effects) -> FunctionGame:
    """Player i is worth effects[i]."""
    values = np.array(effects)
    return FunctionGame(len(values), lambda live: live @ values, bounds=(float(values[values < 0].sum()), float(values[values > 0].sum())))


def same(first, second) -> bool:
    """Whether two results agree in every bit."""
    return repr(first.low) == repr(second.low) and repr(first.high) == repr(second.high) and first.passes == second.passes


# ---- rounds ----


@pytest.mark.parametrize("t0", [0.0, 0.6])
def test_a_round_has_one_size_in_every_stratum_and_its_mirror(t0):
    game = additive(np.ones(4000))
    for index in range(3):
        live = draw_stratified(game, seed=1, index=index, size=20, t0=t0).live
        share = live.mean(axis=1)
        stratum = (share[0::2] - t0) / (1 - t0) * 10
        assert (np.abs(stratum - np.arange(10) - 0.5) < 0.5 + 0.4).all()
        assert np.abs(np.diff(np.sort(stratum)) - 1).max() < 1.4
        np.testing.assert_allclose(share[0::2] + share[1::2], 1 + t0, atol=0.05)
        if t0 == 0:
            np.testing.assert_array_equal(live[0::2], ~live[1::2])


def test_one_observation_is_the_mean_over_a_round():
    """Player by player, coalition by coalition, from the scores alone."""
    game = TableGame(6, 9, seed=2, signed=True, high=3.0)
    players = np.array([4, 0, 3])
    samples = draw_stratified(game, seed=5, index=7, size=6, t0=0.3)
    expected = []
    for player in players:
        total = 0.0
        for row, example, factor in zip(samples.live, samples.examples, samples.factors, strict=True):
            with_, without = row.copy(), row.copy()
            with_[player], without[player] = True, False
            total += factor * (game.table[example, game.number(with_)] - game.table[example, game.number(without)])
        expected.append(total / 6)
    rounds = {"seed": 5, "size": 6, "t0": 0.3}
    found = run_rounds(game, players, first=7, last=8, **rounds)
    assert found.shape == (1, 3)
    np.testing.assert_allclose(found[0], expected, rtol=1e-12)
    several = run_rounds(game, players, first=5, last=9, **rounds)
    assert several.shape == (4, 3)
    assert several[2].tobytes() == found[0].tobytes()
    assert several[3].tobytes() != found[0].tobytes()
    np.testing.assert_allclose(run_rounds(game, players[1:], first=7, last=8, **rounds)[0], expected[1:])


@pytest.mark.parametrize("t0", [0.0, 0.5])
def test_rounds_are_unbiased(t0):
    game = TableGame(5, 8, seed=3)
    rounds = run_rounds(game, np.arange(5), seed=0, first=0, last=800, size=4, t0=t0)
    expected = truncated_values(5, lambda members: float(game.worths[sum(1 << player for player in members)]), t0)
    error = rounds.std(axis=0) / np.sqrt(800)
    assert (np.abs((1 - t0) * rounds.mean(axis=0) - expected) < 4 * (1 - t0) * error).all()


def test_looks_grow_with_the_rounds_and_do_not_depend_on_anything_else():
    counts, done = [], 0
    while done < 10_000:
        counts.append(look(done))
        done += counts[-1]
    assert counts == sorted(counts)
    assert counts[:64] == [1] * 64
    assert counts[-1] == 64


# ---- what intervals show ----


def shown_by_definition(lower, upper, inside, k, tolerance):
    """The claims about the k lowest, from their definitions by counting."""
    n = len(lower)
    separated = [sum(lower[other] > upper[i] for other in range(n) if other != i) >= n - k for i in range(n)]
    apart = [sum(upper[other] < lower[i] for other in range(n) if other != i) >= k for i in range(n)]
    least, most = sorted(lower)[k - 1], sorted(upper)[k - 1]
    slack = tolerance * (least if least > 0 else -most if most < 0 else 0.0)
    overlap = max(upper[i] for i in range(n) if inside[i]) - min(lower[i] for i in range(n) if not inside[i])
    tied = [
        not separated[i] and not apart[i] and all(abs(v - kth) <= slack + 1e-12 for v in (lower[i], upper[i]) for kth in (least, most))
        for i in range(n)
    ]
    return separated, apart, tied, overlap <= slack, slack


def test_claims_are_those_of_the_definitions_and_true_whatever_the_values_inside():
    rng = np.random.default_rng(0)
    decisions = 0
    for _ in range(400):
        n, k = int(rng.integers(2, 9)), 1
        k = int(rng.integers(1, n // 2 + 1))
        truth = np.round(rng.normal(size=n), 1) - rng.choice([0, 2])
        lower, upper = truth - rng.random(n) * rng.choice([0.02, 0.3, 1]), truth + rng.random(n) * rng.choice([0.02, 0.3, 1])
        found = border(rng.uniform(lower, upper), lower, upper, top=k, tolerance=0.3)
        separated, apart, tied, decided, slack = shown_by_definition(lower, upper, found.inside, k, 0.3)
        assert found.separated.tolist() == separated
        assert found.apart.tolist() == apart
        assert found.tied.tolist() == tied
        assert found.decided == decided
        assert found.slack == pytest.approx(slack)
        decisions += decided
        kth = np.sort(truth)[k - 1]
        room = 0.3 * abs(kth) + 1e-9
        assert found.separated.sum() <= k
        assert (found.inside | ~found.separated).all()
        assert all((truth < truth[i]).sum() < k for i in np.flatnonzero(found.separated))
        assert all((truth < truth[i]).sum() >= k for i in np.flatnonzero(found.apart))
        assert (np.abs(truth - kth)[found.tied] <= room).all()
        assert (truth[found.inside & found.fits] <= kth + room).all()
        assert (truth[~found.inside & found.fits] >= kth - room).all()
        if decided:
            assert found.fits.all()
            assert not found.active.any()
            assert truth[found.inside].max() <= truth[~found.inside].min() + room
        else:
            assert found.active.any()
            assert found.unsettled.any()
    assert 50 < decisions < 350


# ---- decisions ----


@pytest.mark.parametrize("t0", [0.0, 0.5])
@pytest.mark.parametrize("separate", [False, True])
def test_separated_games_are_decided_at_both_ends(separate, t0):
    game = additive([-0.5, 0.0, 0.4, -0.3, 0.0, 0.05, 0.3, -0.02])
    found = certify(game, budget=100_000, top=2, separate=separate, t0=t0)
    assert found.stopped == "decided"
    assert found.low.members == (0, 3)
    assert found.high.members == (2, 6)
    for end in (found.low, found.high):
        assert end.decided
        assert end.undecided == ()
        assert set(end.certified) == set(end.members)
        if separate:
            assert set(end.separated) == set(end.members)
    np.testing.assert_allclose(found.values, (1 - t0) * exact_values(game), atol=0.05)
    assert ((found.lower <= (1 - t0) * exact_values(game)) & ((1 - t0) * exact_values(game) <= found.upper)).all()
    assert found.counts[[1, 4]].max() < found.counts.max()
    assert sum(found.passes.values()) <= 100_000
    assert found.low.slack <= 0.2 * (1 - t0) * 0.3
    assert found.low.audit is None


def test_interactions_and_examples_are_decided_by_their_values():
    game = TableGame(6, 5, seed=11, signed=True)
    single = np.array([0.2, -0.25, 0.0, 0.02, -0.02, 0.0]) @ ((np.arange(64) >> np.arange(6)[:, None]) & 1)
    game.table = 0.45 + np.sign(game.weights)[:, None] * single + 0.1 * game.table
    found = certify(game, budget=50_000, top=1, t0=0.5)
    assert found.stopped == "decided"
    assert (found.low.members, found.high.members) == ((1,), (0,))
    truth = exact_values(game, t0=0.5)
    assert ((found.lower <= truth) & (truth <= found.upper)).all()


def test_more_is_separated_when_the_rounds_go_on():
    game = additive([-0.4, -0.1, 0.0, 0.0, 0.1, 0.4])
    early, late = (certify(game, budget=50_000, top=1, separate=separate) for separate in (False, True))
    assert early.low.decided
    assert early.rounds < late.rounds
    assert len(early.low.separated) == 0  # decided within the tolerance, with a rest of overlap
    assert late.low.separated == (0,)


def test_ties_are_listed_as_ties():
    game = additive([-0.5, -0.3, -0.3, -0.29, 0.0, 0.0, 0.0, 0.3, 0.4, 0.5])
    found = certify(game, budget=200_000, top=3, separate=True)
    assert found.stopped == "decided"
    assert found.low.separated == (0,)
    assert set(found.low.ties) == {1, 2, 3}
    assert set(found.high.separated) == {7, 8, 9}
    assert found.high.ties == ()
    lines = str(found).splitlines()
    assert sum(line.endswith("  tie") for line in lines) == 3  # also the one that is not a member


def test_a_border_at_zero_is_never_decided():
    found = certify(additive([-0.5, 0.0, 0.0, 0.0, 0.5, 0.6]), budget=10_000, top=2)
    assert found.stopped == "budget"
    assert not found.low.decided
    assert found.high.decided
    assert found.low.slack == 0
    assert set(found.low.undecided) == {1, 2, 3}


class Remembering(FunctionGame):
    """Remembers whose flips were asked for, round by round."""

    def __init__(self, *args, **options) -> None:
        super().__init__(*args, **options)
        self.flipped: list[set[int]] = []

    def _flips(self, coalitions, examples, players):
        self.flipped += [set(players.tolist())] * (len(examples) // 2)  # rounds of two
        return super()._flips(coalitions, examples, players)


def test_excluded_players_come_back():
    """Player 0 never varies and player 1 does; when 1 takes the place of 0 the border moves up towards player 2, which had been excluded."""

    def worth(live):
        alike = (live[:, 3] == live[:, 4]) & (live[:, 4] == live[:, 5])
        return -0.30 * live[:, 0] - 0.6 * live[:, 1] * alike - 0.17 * live[:, 2]

    came_back = []
    for seed in (6, 7):
        game = Remembering(6, worth, bounds=(-1.15, 0))
        found = certify(game, budget=5_000, top=1, seed=seed, tolerance=0.4)
        played = [2 in players for players in game.flipped]
        assert found.counts[2] == sum(played)
        came_back.append("out, in" in ", ".join("in" if each else "out" for each in played))
    assert any(came_back)


# ---- budget, seeds, state ----


@pytest.mark.parametrize("shares", ["whole passes", "shares"])
def test_the_budget_is_never_exceeded(shares):
    rng = np.random.default_rng(0)
    for budget in [*rng.integers(100, 1500, 8), 733.25]:
        game = TableGame(8, 7)
        if shares == "shares":
            game.flip_shares = rng.random(8)
        found = certify(game, budget=float(budget), top=2)
        assert game.cost <= budget + 1e-6
        assert found.passes == {"flips": pytest.approx(game.cost)}
        assert found.stopped == "budget"
        assert found.rounds >= 2


@pytest.mark.parametrize("size", [2, 10])
def test_the_least_budget_is_named_and_is_enough(size):
    game = TableGame(8, 7)
    game.flip_shares = np.linspace(0.1, 0.9, 8)
    with pytest.raises(BudgetError, match="does not pay two rounds: the guarantee needs at least") as error:
        certify(game, budget=10, top=2, size=size)
    least = float(re.search(r"at least ([\d,]+)", str(error.value)).group(1).replace(",", ""))
    assert certify(game, budget=least, top=2, size=size).rounds == 2
    with pytest.raises(BudgetError):
        certify(game, budget=least - 1, top=2, size=size)


def test_same_seed_same_bits_and_a_saved_state_goes_on_to_them():
    game = TableGame(8, 7)
    screen = exact_values(game)
    options = {"budget": 4_000, "top": 2, "t0": 0.3, "screen": screen, "contested": np.argsort(screen)[[0, 1, 2, 5, 6, 7]], "audit": 8}
    saved: list[dict] = []
    whole = certify(game, seed=7, **options, save=lambda race: saved.append(race.arrays()))
    again, other = (certify(game, seed=seed, **options) for seed in (7, 8))
    assert same(whole, again)
    assert not same(whole, other)
    for state in (saved[0], saved[len(saved) // 2], saved[-1]):
        resumed = certify(game, seed=7, **options, race=Race.from_arrays({name: array.copy() for name, array in state.items()}))
        assert same(whole, resumed)
        for name in ("values", "lower", "upper", "counts"):
            assert getattr(whole, name).tobytes() == getattr(resumed, name).tobytes()
    with pytest.raises(UsageError, match="the state is of"):
        certify(game, seed=7, **options | {"delta": 0.2}, race=Race.from_arrays(saved[0]))


# ---- screen and audit ----


@pytest.mark.parametrize(("hits", "draws"), [(0, 1), (0, 64), (3, 64), (63, 64), (64, 64)])
@pytest.mark.parametrize("delta", [0.0125, 0.3])
def test_the_audit_bound_is_clopper_and_pearsons(hits, draws, delta):
    assert clopper_pearson(hits, draws, delta) == pytest.approx(
        binomtest(hits, draws, alternative="less").proportion_ci(1 - delta, "exact").high
    )


def test_audit_chances_are_known_and_rise_towards_both_ends():
    rng = np.random.default_rng(0)
    for m in (1, 2, 3, 50):
        screen = rng.normal(size=m)
        chances = audit_chances(screen)[np.argsort(screen)]
        assert chances.sum() == pytest.approx(1)
        assert chances.min() >= 1 / (2 * m)
        np.testing.assert_allclose(chances, chances[::-1])
        assert (np.diff(chances[: (m + 1) // 2]) < 0).all()


def hidden() -> tuple[FunctionGame, np.ndarray, np.ndarray]:
    """Players 0, 1 and 22, 23 of 24 stand out and the screen says so; player 12 stands out lowest and it does not."""
    values = np.zeros(24)
    values[[0, 1, 22, 23, 12]] = [-0.2, -0.15, 0.15, 0.2, -0.4]
    screen = np.where(values == 0, np.linspace(-0.01, 0.01, 24), values)
    screen[12] = 0.0
    return additive(values), screen, np.array([0, 1, 2, 21, 22, 23])


def test_the_audit_finds_a_player_that_the_screen_hides():
    game, screen, contested = hidden()
    outside = np.setdiff1d(np.arange(24), contested)
    chances = dict(zip(outside.tolist(), audit_chances(screen[outside]), strict=True))
    seen = 0
    for seed in range(3):
        found = certify(game, budget=60_000, top=2, contested=contested, screen=screen, seed=seed, audit=16, separate=True)
        assert found.stopped == "decided"
        assert set(found.contested) == set(contested.tolist())
        assert not set(found.audited) & set(found.contested)
        assert set(np.flatnonzero(found.counts)) == set(found.contested) | set(found.audited)
        assert np.isnan(found.values[found.counts == 0]).all()
        low, high = found.low.audit, found.high.audit
        assert (low.draws, high.draws, high.hits) == (16, 16, 0)
        assert high.mass == pytest.approx(binomtest(0, 16, alternative="less").proportion_ci(1 - 0.05 / 4, "exact").high)
        if 12 in found.audited:
            seen += 1
            assert found.low.separated == (12, 0)
            assert low.hits >= 1
        else:
            assert found.low.separated == (0, 1)
            assert low.hits == 0
        assert chances[12] <= low.mass
        assert 1 <= low.count <= 18
        assert low.share == low.count / 18
        unseen = sorted(chances[player] for player in outside if player not in found.audited or player == 12)
        assert high.count == max(j for j in range(len(unseen) + 1) if sum(unseen[:j]) <= high.mass)
    assert seen


def test_undecided_draws_count_as_hits():
    game, screen, contested = hidden()
    found = certify(game, budget=1_000, top=2, contested=contested, screen=screen, audit=16)
    for end in (found.low, found.high):
        assert (end.audit.hits, end.audit.mass, end.audit.count, end.audit.share) == (16, 1.0, 18, 1.0)


def test_without_an_outside_there_is_nothing_to_audit():
    game = additive([-0.5, 0.0, 0.0, 0.5])
    found = certify(game, budget=20_000, top=1, contested=[0, 1, 2, 3], screen=np.zeros(4))
    assert found.low.audit is None
    assert found.audited == ()
    everyone = certify(game, budget=20_000, top=1)
    assert same(found, everyone)  # all of delta goes to the sequences


# ---- what a reader sees, and bad input ----


def test_the_headline_is_the_number_of_truly_separated_filters():
    game, screen, contested = hidden()
    found = certify(additive([-0.5, -0.3, 0.0, 0.0, 0.3, 0.5]), budget=50_000, top=2, separate=True, ids=list("abcdef"))
    lines = str(found).splitlines()
    assert lines[0] == "truly separated: 2 of the 2 lowest and 2 of the 2 highest (of all 6 filters, confidence 0.95)"
    assert lines[1].startswith(f"stopped by decision after {found.rounds} rounds of 2, {found.passes['flips']:,.0f} passes; t0 = 0")
    assert re.search(r"^  a +-0\.\d{5} in \[-0\.\d{5}, -0\.\d{5}\]  separated$", "\n".join(lines), re.MULTILINE)
    audited = str(certify(game, budget=2_000, top=2, contested=contested, screen=screen, t0=0.25)).splitlines()
    assert audited[0].startswith("truly separated: 0 of the 2 lowest and 0 of the 2 highest (of 6 contested and ")
    assert audited[1].startswith("stopped by budget")
    assert "t0 = 0.25" in audited[1]
    assert "  missed by the screen: at most 18 filters, 100.0% of those outside (64 of 64 audit draws may be such)" in audited


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"top": 0}, "top must lie between 1 and the 9 players"),
        ({"top": 10}, "top must lie between 1 and the 9 players"),
        ({"top": 5}, "top must be at most half of the 9 filters"),
        ({"top": 9}, "top must be at most half of the 9 filters"),
        ({"contested": [0, 1, 2], "screen": np.zeros(9)}, "top must be at most half of the 3 filters"),
        ({"delta": 0.0}, "delta must lie between 0 and 1"),
        ({"delta": 1.0}, "delta must lie between 0 and 1"),
        ({"t0": 1.0}, r"t0 must lie in \[0, 1\)"),
        ({"t0": -0.1}, r"t0 must lie in \[0, 1\)"),
        ({"tolerance": -0.1}, r"tolerance must lie in \[0, 1\)"),
        ({"tolerance": 1.0}, r"tolerance must lie in \[0, 1\)"),
        ({"size": 3}, "whole antithetic pairs"),
        ({"audit": 0}, "an audit takes at least one draw"),
        ({"contested": [0, 1, 2, 3]}, "contested and screen go together"),
        ({"screen": np.zeros(9)}, "contested and screen go together"),
        ({"contested": [0, 1, 2, 2], "screen": np.zeros(9)}, "different players out of 0 to 8"),
        ({"contested": [0, 1, 2, 9], "screen": np.zeros(9)}, "different players out of 0 to 8"),
        ({"contested": [0, 1, 2, 3], "screen": np.zeros(8)}, "a finite value for each of the 9 players"),
        ({"contested": [0, 1, 2, 3], "screen": np.full(9, np.nan)}, "a finite value for each of the 9 players"),
    ],
)
def test_bad_settings_are_named(options, message):
    with pytest.raises(UsageError, match=message):
        certify(TableGame(9, 7), budget=5_000, **{"top": 2, **options})


def test_a_game_that_breaks_its_word_is_refused():
    with pytest.raises(GameError, match="outside its range"):
        certify(FunctionGame(4, lambda live: 9.0 * live[:, 0], bounds=(0, 1)), budget=5_000, top=1)


def test_a_second_order_game_needs_no_more_than_its_range_term():
    game, values = second_order(6)
    found = certify(game, budget=20_000, top=1, separate=True)
    np.testing.assert_allclose(found.values, values, atol=2 * game.marginal_range * 30 / found.counts.min())
