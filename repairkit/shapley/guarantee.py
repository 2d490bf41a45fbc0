"""`tmab` with a guarantee: which players have the k lowest and the k highest values, with probability 1 - delta."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import stats

from repairkit.errors import BudgetError, UsageError
from repairkit.shapley.attribution import End, Ledger, names
from repairkit.shapley.game import Examples, Floats, Game
from repairkit.shapley.rounds import Samples
from repairkit.shapley.sequences import ConfidenceSequence
from repairkit.shapley.walk import Progress, check_sought

Flags = npt.NDArray[np.bool_]

ROUND = 2
"""Coalitions of one round. An interval's range term shrinks with the number of rounds, so that they should be small: in six games of
`benchmarks/coverage.py` that all sizes decided but one, 4, 8 and 16 took 1.4, 2.4 and over 4 times the passes (medians)."""
AUDIT_DRAWS = 64
"""Draws of the audit: when none may be a miss, those missed have 6.6 % of the chances at most at delta = .05."""
LOOK, LONGEST_LOOK = 32, 64
"""One in 32 more rounds are played before the intervals are looked at again, at most 64."""
TOGETHER = 16
"""Rounds whose coalitions fill one call of the game; pieces of a look, fixed so that they may be played in any order or place."""
_ROUND_STAGE, _AUDIT_STAGE = 101, 102  # second words of the seeds; those of `tmab` are small


@dataclass
class Race:
    """The whole state between two looks; all else follows from it and from the arguments of `certify`.

    Attributes:
        sequence: the confidence sequence of every valued player, in the order of their numbers.
        rounds: how many rounds are folded in.
        spent: image passes of those rounds.
    """

    sequence: ConfidenceSequence
    rounds: int = 0
    spent: float = 0.0

    def arrays(self) -> dict[str, Floats]:
        """The state as plain arrays, for a checkpoint."""
        return {**self.sequence.arrays(), "progress": np.array([self.rounds, self.spent])}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Floats]) -> Race:
        """The state that `arrays` was taken of."""
        rounds, spent = arrays["progress"]
        return cls(ConfidenceSequence.from_arrays(arrays), int(rounds), float(spent))


@dataclass(frozen=True, eq=False)
class Border:
    """Where the k lowest of some players end; every claim holds when all intervals do. Flags have shape (n,).

    Attributes:
        inside: the k lowest by estimate.
        separated: shown to be among the k lowest; never more than k, all of them inside.
        apart: shown not to be among them.
        tied: shown to lie within `slack` of the k-th lowest value, and neither separated nor apart.
        fits: shown to be misplaced by `slack` at most: those inside are no further above the k-th
            value, the others no further below it.
        active: players that overlap the other side by more than `slack` and are neither separated nor apart; none when decided.
        unsettled: all players that are neither separated nor apart; none when decided and all of these are tied.
        most: upper bound of the k-th lowest value.
        slack: the tolerance in units of value, at most `tolerance * |k-th lowest value|`.
        decided: those inside overlap the others by at most `slack`.
    """

    inside: Flags
    separated: Flags
    apart: Flags
    tied: Flags
    fits: Flags
    active: Flags
    unsettled: Flags
    most: float
    slack: float
    decided: bool


@dataclass(frozen=True)
class Audit:
    """What the screen missed at one end, at most.

    Missed is an outside player that is more extreme than the k-th value of all players by more
    than the tolerance. With the probability of the guarantee the chances of all that are missed sum to `mass` at most.

    Attributes:
        draws: how many draws were made outside the contested, with replacement and known chances.
        hits: draws whose player is not shown to be none of the missed.
        mass: Clopper-Pearson upper bound on the sum of their chances, in [0, 1].
        count: how many outside players that are not shown to be none can have so little chance together.
        share: `count` as a share of the outside players, in [0, 1].
    """

    draws: int
    hits: int
    mass: float
    count: int
    share: float


@dataclass(frozen=True)
class Extremes:
    """What is shown of one end: players by number, most extreme estimate first.

    Attributes:
        end: "low" or "high".
        members: the k most extreme by estimate.
        separated: shown to be among the k most extreme of the valued players.
        certified: members shown to be among them or within the tolerance of the k-th value.
        ties: players that cannot be told from the k-th and are shown to lie within the tolerance of its value.
        undecided: players that may be misplaced by more than the tolerance; none when decided.
        slack: the tolerance in units of value; 0 while the k-th value may be 0.
        decided: members overlap the others by at most the tolerance.
        audit: what was missed outside the contested; None where all players are valued.
    """

    end: End
    members: tuple[int, ...]
    separated: tuple[int, ...]
    certified: tuple[int, ...]
    ties: tuple[int, ...]
    undecided: tuple[int, ...]
    slack: float
    decided: bool
    audit: Audit | None


@dataclass(frozen=True, eq=False)
class Guarantee:
    """What is shown of both ends, with probability 1 - delta over the samples and conditional on the images.

    Attributes:
        ids: names of all players.
        values: estimates, moved into their intervals, float64 (n,); NaN for players that were not valued.
        lower: lower ends of intervals that hold for all players and at all times at once; NaN likewise.
        upper: upper ends.
        counts: rounds in which each player was observed, float64 (n,).
        contested: the players that the screen picked, or all.
        audited: the outside players that were drawn.
        low: the k lowest.
        high: the k highest.
        stopped: "decided", or "budget" when another round could not be paid.
        top, tolerance, delta, t0, seed, size, rounds: how it was found.
        passes: image passes by kind.
    """

    ids: tuple[str, ...]
    values: Floats
    lower: Floats
    upper: Floats
    counts: Floats
    contested: tuple[int, ...]
    audited: tuple[int, ...]
    low: Extremes
    high: Extremes
    stopped: Literal["decided", "budget"]
    top: int
    tolerance: float
    delta: float
    t0: float
    seed: int
    size: int
    rounds: int
    passes: dict[str, float]

    def __str__(self) -> str:
        whom = f"all {len(self.ids)} filters"
        if len(self.contested) < len(self.ids):
            whom = f"{len(self.contested)} contested and {len(self.audited)} audited of {len(self.ids)} filters"
        lines = [
            f"truly separated: {len(self.low.separated)} of the {self.top} lowest and {len(self.high.separated)} of the {self.top} highest"
            f" (of {whom}, confidence {1 - self.delta:g})",
            f"stopped by {'decision' if self.stopped == 'decided' else 'budget'} after {self.rounds:,} rounds of {self.size},"
            f" {sum(self.passes.values()):,.0f} passes; t0 = {self.t0:g}, tolerance {self.tolerance:g} of the k-th value",
        ]
        for extremes in (self.low, self.high):
            lines += self._lines(extremes)
        return "\n".join(lines)

    def _lines(self, extremes: Extremes) -> list[str]:
        lines = [
            f"{extremes.end}est {self.top}, {'decided' if extremes.decided else 'undecided'}:"
            f" {len(extremes.ties)} ties and {len(extremes.undecided)} undecided at a tolerance of {extremes.slack:.2g}"
        ]
        if (audit := extremes.audit) is not None:
            lines.append(
                f"  missed by the screen: at most {audit.count} filters, {audit.share:.1%} of those outside"
                f" ({audit.hits} of {audit.draws} audit draws may be such)"
            )
        shown = [*extremes.members, *(player for player in extremes.ties if player not in extremes.members)]
        for player in shown:
            sure = "undecided" if player in extremes.undecided else "within tolerance"
            state = "separated" if player in extremes.separated else "tie" if player in extremes.ties else sure
            interval = f"[{self.lower[player]:+.5f}, {self.upper[player]:+.5f}]"
            lines.append(f"  {self.ids[player]:40s} {self.values[player]:+.5f} in {interval}  {state}")
        return lines


def certify(
    game: Game,
    *,
    budget: float,
    top: int,
    seed: int = 0,
    t0: float = 0.0,
    delta: float = 0.05,
    tolerance: float = 0.2,
    size: int = ROUND,
    separate: bool = False,
    contested: Sequence[int] | Examples | None = None,
    screen: Floats | None = None,
    audit: int = AUDIT_DRAWS,
    ids: Sequence[object] | None = None,
    race: Race | None = None,
    save: Callable[[Race], None] | None = None,
    progress: Progress | None = None,
) -> Guarantee:
    """Decide which players have the `top` lowest and the `top` highest values, wrong with probability delta at most.

    Values are those of `tmab`: `(1 - t0) E[V(S with i) - V(S without i)]` with t ~ U[t0, 1] and each
    other player in S with probability t. One observation of a player is the mean of its marginal
    contributions in one round (`run_rounds`), in the true range +- `game.marginal_range`. Every valued player
    has a confidence sequence with an equal part of delta, which both ends and all times share.

    *Stopping* (LUCB): an end is decided when the worst bound of the k inside overlaps the best bound
    of the others by no more than the slack, `tolerance` times a lower bound of |k-th value|.
    *Allocation*: the next rounds observe the players whose intervals overlap the other side by more
    than that, at either end. They are found anew among all at every look (`look`: after every round at
    first), so that players come back when the border moves towards them; only those shown to be on one
    side of it are done with. An end can be decided with overlaps left that a few more rounds would part;
    with `separate` the rounds go on until each player is on a known side or shown to be a tie.

    With `contested` and `screen`, the ends are those of the contested and of an audit of the others, and
    what the screen missed is bounded. Half of delta goes to the sequences, a quarter to the audit of
    each end. The audit draws with replacement, with chances that rise towards the ends of the screen
    (`audit_chances`). Missed players (`Audit`) are a fixed set, so the number of draws that fall on
    them is binomial with the sum of their chances, whatever the single chances are: Clopper-Pearson
    bounds that sum. A draw counts as a hit unless its player's interval shows that it is not missed.

    Deviations from the source: all overlapping players are observed, not the two most critical ones
    (they share coalitions and the pass of the base); the tolerance is relative to the k-th value.

    Sources: Kalyanakrishnan, Tewari, Auer & Stone 2012, *PAC Subset Selection in Stochastic Multi-armed
    Bandits* (LUCB); Clopper & Pearson 1934; `ConfidenceSequence` for the intervals.

    Args:
        game: what is played.
        budget: image passes, never exceeded.
        top: k, at each end.
        seed: everything random comes from it.
        t0: live zone, in [0, 1).
        delta: probability that any claim of the result is wrong, in (0, 1).
        tolerance: in [0, 1), relative to the k-th value of each end.
        size: coalitions of a round, even.
        separate: go on after the decision, for more players that are truly separated.
        contested: numbers of the players that a screen picked; None for all.
        screen: screen value of every player, shape (n,); given together with `contested`.
        audit: draws outside the contested, at least 1.
        ids: names of the players.
        race: state to go on from, of a call with the same arguments; the result is the same, bit for bit.
        save: called with the state at every look.
        progress: told at every look.

    Raises:
        BudgetError: the budget does not pay two rounds of all valued players; names the least that does.
        UsageError: twice `top` exceeds the players, or an argument is out of range.

    Example:
        >>> from repairkit.shapley.game import FunctionGame
        >>> game = FunctionGame(6, lambda live: live @ np.array([-0.4, -0.1, 0.0, 0.0, 0.1, 0.4]), bounds=(-0.5, 0.5))
        >>> found = certify(game, budget=20_000, top=1, separate=True)
        >>> found.low.separated, found.high.separated, found.stopped
        ((0,), (5,), 'decided')
    """
    _check(game, top=top, delta=delta, t0=t0, tolerance=tolerance, size=size, audit=audit)
    picked = _picked(game, contested, screen, top)
    outside = np.setdiff1d(np.arange(game.n), picked).astype(np.int64)
    chances = audit_chances(screen[outside]) if screen is not None and len(outside) else np.empty(0)
    draws = np.random.default_rng([seed, _AUDIT_STAGE]).choice(outside, size=audit, p=chances) if len(outside) else outside
    players = np.union1d(picked, draws).astype(np.int64)
    shared = delta / 2 if len(outside) else delta

    ledger = Ledger(budget)
    if not ledger.affords(least := 2 * size * game.flip_cost(players)):
        raise BudgetError(
            f"the budget of {budget:,.0f} image passes does not pay two rounds: the guarantee needs at least {math.ceil(least):,} here; give a larger --budget"
        )
    race = _started(race, len(players), reach=game.marginal_range, alpha=shared / len(players))
    if race.spent:
        ledger.spend("flips", race.spent)
    rules = _Rules(top, tolerance, separate, seed, size, t0)
    low, high, stopped = _play(game, race, ledger, players, rules, save=save, progress=progress)

    def everyone(values: Floats, otherwise: float = np.nan) -> Floats:
        scattered = np.full(game.n, otherwise)
        scattered[players] = values
        return scattered

    def extremes(border: Border, end: End) -> Extremes:
        missed = _missed(border, players, outside, chances, draws, delta / 4) if len(outside) else None
        return _extremes(border, end, players, estimates(race.sequence), scale=1 - t0, audit=missed)

    return Guarantee(
        ids=names(ids, game.n),
        values=everyone((1 - t0) * estimates(race.sequence)),
        lower=everyone((1 - t0) * race.sequence.lower),
        upper=everyone((1 - t0) * race.sequence.upper),
        counts=everyone(race.sequence.count, 0.0),
        contested=_numbers(picked),
        audited=_numbers(np.unique(draws)),
        low=extremes(low, "low"),
        high=extremes(high, "high"),
        stopped=stopped,
        top=top,
        tolerance=tolerance,
        delta=delta,
        t0=t0,
        seed=seed,
        size=size,
        rounds=race.rounds,
        passes=ledger.spent,
    )


@dataclass(frozen=True)
class _Rules:
    top: int
    tolerance: float
    separate: bool
    seed: int
    size: int
    t0: float


def _play(
    game: Game,
    race: Race,
    ledger: Ledger,
    players: Examples,
    rules: _Rules,
    *,
    save: Callable[[Race], None] | None,
    progress: Progress | None,
) -> tuple[Border, Border, Literal["decided", "budget"]]:
    """Play look after look, folded into `race` in order, until both ends are decided or the next round cannot be paid."""
    while True:
        low, high = borders(race.sequence, top=rules.top, tolerance=rules.tolerance)
        active = np.flatnonzero(low.unsettled | high.unsettled if rules.separate else low.active | high.active)
        if len(active) == 0:
            return low, high, "decided"
        cost = rules.size * game.flip_cost(players[active])
        last = race.rounds + min(look(race.rounds), int((ledger.left + 1e-6) // cost))
        if last == race.rounds:
            return low, high, "budget"
        ledger.spend("flips", (last - race.rounds) * cost)
        observed = [
            run_rounds(game, players[active], seed=rules.seed, first=first, last=min(first + TOGETHER, last), size=rules.size, t0=rules.t0)
            for first in range(race.rounds, last, TOGETHER)
        ]
        race.sequence.add(np.concatenate(observed), active)
        race.spent += (last - race.rounds) * cost
        race.rounds = last
        if save is not None:
            save(race)
        if progress is not None:
            progress("guarantee", ledger.budget - ledger.left, ledger.budget)


def look(rounds: int) -> int:
    """How many rounds are played before the next look, when `rounds` have been: with the same players, in any order or place.

    Example:
        >>> [look(rounds) for rounds in (0, 63, 64, 320, 10_000)]
        [1, 1, 2, 10, 64]
    """
    return min(LONGEST_LOOK, max(1, rounds // LOOK))


def run_rounds(game: Game, players: Examples, *, seed: int, first: int, last: int, size: int, t0: float) -> Floats:
    """What rounds `first` to `last` - 1 observe of each player, one row per round: float64 (last - first, len(players)).

    An observation is the mean marginal contribution over one round, in natural units. All players share
    a round's coalitions and examples. Pure: the same arguments give the same bits, wherever it runs.
    """
    rounds = [draw_stratified(game, seed=seed, index=index, size=size, t0=t0) for index in range(first, last)]
    live = np.concatenate([samples.live for samples in rounds])
    marginals = game.flips(live, np.concatenate([samples.examples for samples in rounds]), players)
    signed = np.concatenate([samples.factors for samples in rounds])[:, None] * marginals
    observations: Floats = signed.reshape(last - first, size, len(players)).mean(axis=1)
    return observations


def draw_stratified(game: Game, *, seed: int, index: int, size: int, t0: float) -> Samples:
    """Coalitions of one round, as antithetic pairs: one size t in each of size / 2 equal strata of [t0, 1].

    The second of a pair has size t0 + 1 - t and mirrored draws, as in `rounds.draw_round`. Averaged over a round
    sizes are uniform, so that the round's mean is unbiased; its members are no independent observations.
    """
    strata = size // 2
    rng = np.random.default_rng([seed, _ROUND_STAGE, index])
    t = t0 + (1 - t0) * (np.arange(strata) + rng.random(strata)) / strata
    u = rng.random((strata, game.n))
    live = np.empty((size, game.n), dtype=bool)
    live[0::2] = u < t[:, None]
    live[1::2] = 1 - u <= (t0 + 1 - t)[:, None]
    examples, factors = game.draw(rng, size)
    return Samples(live, examples, factors)


def estimates(sequence: ConfidenceSequence) -> Floats:
    """Means of the observations, moved into their intervals; float64 (n,)."""
    mean = np.where(sequence.count > 0, sequence.mean, (sequence.low + sequence.high) / 2)
    moved: Floats = np.clip(mean, sequence.lower, sequence.upper)
    return moved


def borders(sequence: ConfidenceSequence, *, top: int, tolerance: float) -> tuple[Border, Border]:
    """The borders of the k lowest and, with all signs turned, of the k highest."""
    estimate, lower, upper = estimates(sequence), sequence.lower, sequence.upper
    return (
        border(estimate, lower, upper, top=top, tolerance=tolerance),
        border(-estimate, -upper, -lower, top=top, tolerance=tolerance),
    )


def border(estimate: Floats, lower: Floats, upper: Floats, *, top: int, tolerance: float) -> Border:
    """What intervals [lower, upper] of n > top values, float64 (n,), show of the `top` lowest.

    Example:
        >>> found = border(np.array([-2.0, -1.0, 0.9]), np.array([-2.2, -1.4, 0.7]), np.array([-1.8, -0.6, 1.1]), top=1, tolerance=0.2)
        >>> found.separated, found.apart, found.decided, round(found.slack, 2)
        (array([ True, False, False]), array([False,  True,  True]), True, 0.36)
    """
    inside = np.zeros(len(estimate), dtype=bool)
    inside[np.argsort(estimate, kind="stable")[:top]] = True
    by_lower, by_upper = np.sort(lower), np.sort(upper)
    least, most, following = by_lower[top - 1], by_upper[top - 1], by_lower[top]
    slack = tolerance * max(0.0, least, -most)
    worst, best = upper[inside].max(), lower[~inside].min()
    separated, apart = upper < following, lower > most
    near = (lower >= most - slack) & (upper <= least + slack)
    contested = ~separated & ~apart
    overlapping = np.where(inside, upper > best + slack, lower < worst - slack)
    decided = not overlapping.any()
    return Border(
        inside=inside,
        separated=separated,
        apart=apart,
        tied=near & contested,
        fits=np.where(inside, upper <= following + slack, lower >= most - slack),
        active=overlapping & contested,
        unsettled=contested & ~(decided and near[contested].all()),
        most=float(most),
        slack=float(slack),
        decided=bool(decided),
    )


def audit_chances(screen: Floats) -> Floats:
    """Chance of each outside player to be audited, float64 (m,), summing to 1; it rises towards both ends of their screen values.

    Half of it is even, so that nobody's is below 1 / (2 m), half is inversely proportional to the place
    counted from the nearer end.

    Example:
        >>> audit_chances(np.array([0.5, -0.1, 0.0, 0.3])).round(3)
        array([0.292, 0.292, 0.208, 0.208])
    """
    m = len(screen)
    place = np.empty(m)
    place[np.argsort(screen, kind="stable")] = np.minimum(np.arange(m), np.arange(m)[::-1]) + 1
    chances: Floats = 0.5 / m + 0.5 / place / (1 / place).sum()
    return chances


def clopper_pearson(hits: int, draws: int, delta: float) -> float:
    """Upper bound of a share of which `hits` of `draws` independent draws were seen; too low with probability delta at most.

    Source: Clopper & Pearson 1934, Biometrika 26:404, one side.

    Example:
        >>> round(clopper_pearson(0, 64, 0.0125), 4)
        0.0662
    """
    return 1.0 if hits == draws else float(stats.beta.isf(delta, hits + 1, draws - hits))


def _missed(border: Border, players: Examples, outside: Examples, chances: Floats, draws: Examples, delta: float) -> Audit:
    """Bound on the outside players beyond the k-th value of all players by more than the tolerance.

    That k-th value v is at most the k-th of the valued ones, and `v - tolerance * |v|` rises with v,
    so a player whose interval ends above `most - slack` is shown not to be missed.
    """
    shown = border.apart | (border.fits & ~border.inside)
    hits = int((~shown[np.searchsorted(players, draws)]).sum())
    mass = clopper_pearson(hits, len(draws), delta)
    possible = np.sort(chances[~np.isin(outside, players[shown])])
    count = int(np.searchsorted(np.cumsum(possible), mass * (1 + 1e-9), side="right"))
    return Audit(draws=len(draws), hits=hits, mass=mass, count=count, share=count / len(outside))


def _extremes(border: Border, end: End, players: Examples, estimate: Floats, *, scale: float, audit: Audit | None) -> Extremes:
    order = np.argsort(estimate if end == "low" else -estimate, kind="stable")

    def which(flags: Flags) -> tuple[int, ...]:
        return _numbers(players[order[flags[order]]])

    return Extremes(
        end=end,
        members=which(border.inside),
        separated=which(border.separated),
        certified=which(border.inside & border.fits),
        ties=which(border.tied),
        undecided=which(~border.fits),
        slack=scale * border.slack,
        decided=border.decided,
        audit=audit,
    )


def _numbers(players: Examples) -> tuple[int, ...]:
    return tuple(int(player) for player in players)


def _check(game: Game, *, top: int, delta: float, t0: float, tolerance: float, size: int, audit: int) -> None:
    check_sought(game, top, delta)
    if not 0 <= t0 < 1:
        raise UsageError(f"t0 must lie in [0, 1), got {t0}; it is the least share of filters that stays live")
    if not 0 <= tolerance < 1:
        raise UsageError(f"the tolerance must lie in [0, 1), got {tolerance}; it is relative to the k-th value")
    if size < 2 or size % 2:
        raise UsageError(f"a round holds whole antithetic pairs, got size {size}")
    if audit < 1:
        raise UsageError(f"an audit takes at least one draw, got {audit}; without one nothing is known of filters outside the contested")


def _picked(game: Game, contested: Sequence[int] | Examples | None, screen: Floats | None, top: int) -> Examples:
    """Numbers of the contested players in order; all where no screen picked any."""
    if (contested is None) != (screen is None):
        raise UsageError("contested and screen go together: the players that a screen picked, and its value of every player")
    picked: Examples = np.arange(game.n) if contested is None else np.unique(np.asarray(contested, dtype=np.int64))
    if contested is not None and (len(picked) != len(contested) or not 0 <= picked.min() <= picked.max() < game.n):
        raise UsageError(f"contested must be different players out of 0 to {game.n - 1}")
    if screen is not None and (screen.shape != (game.n,) or not np.isfinite(screen).all()):
        raise UsageError(f"the screen must have a finite value for each of the {game.n} players, got shape {screen.shape}")
    if 2 * top > len(picked):
        raise UsageError(f"top must be at most half of the {len(picked)} filters it is taken from, since both ends are sought, got {top}")
    return picked


def _started(race: Race | None, n: int, *, reach: float, alpha: float) -> Race:
    """A fresh state, or the given one when it belongs to these arguments."""
    fresh = ConfidenceSequence(n, -reach, reach, alpha)
    if race is None:
        return Race(fresh)
    given = race.sequence
    if (len(given.lower), given.low, given.high, given.alpha) != (n, fresh.low, fresh.high, fresh.alpha):
        raise UsageError(
            f"the state is of {len(given.lower)} filters in [{given.low:g}, {given.high:g}] at {given.alpha:.3g}, expected {n} in [{-reach:g}, {reach:g}] at {alpha:.3g}; start anew"
        )
    return race
