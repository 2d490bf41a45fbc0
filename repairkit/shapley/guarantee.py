"""What a guarantee says: claims about both ends that are all true with probability 1 - delta."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from repairkit.shapley.audit import Audit

End = Literal["low", "high"]
EXTREME: dict[End, str] = {"low": "lowest", "high": "highest"}


@dataclass(frozen=True)
class TopKClaims:
    """What is shown of one end; players by name, most extreme estimate first.

    Attributes:
        members: the k most extreme by estimate.
        separated: shown to be among the k most extreme of the valued players.
        certified: members shown to be among them, or on the wrong side of the k-th value by the tolerance at most; holds the separated.
        ties: players not separated and shown to lie within the tolerance of the k-th value.
        undecided: number of valued players that may be on the wrong side by more than the tolerance.
        slack: the tolerance in units of value; 0 while the k-th value may be 0.
        decided: the members overlap the others by the tolerance at most, and all of them are certified.
        audit: what the screen missed; None where all players are valued.
    """

    end: End
    members: tuple[str, ...]
    separated: tuple[str, ...]
    certified: tuple[str, ...]
    ties: tuple[str, ...]
    undecided: int
    slack: float
    decided: bool
    audit: Audit | None = None

    def status(self, name: str) -> str:
        """What is shown of a player at this end: "separated", "tie", "within tolerance" or "undecided"."""
        claims = {"separated": self.separated, "tie": self.ties, "within tolerance": self.certified}
        return next((claim for claim, names in claims.items() if name in names), "undecided")


@dataclass(frozen=True)
class Guarantee:
    """All that is claimed with probability 1 - delta, over the samples and conditional on the images.

    Attributes:
        delta: probability that any claim, or any interval at any time, is wrong.
        tolerance: relative to the k-th value of each end.
        top_k: k, at each end.
        players: n.
        candidates: how many players the screen picked, or n where the claims are about all.
        audited: how many others were drawn for the audit.
        pairs: antithetic pairs that were played.
        stopped: "decided", or "budget" when the next pair could not be paid.
        low, high: what is shown of the k lowest and the k highest.
    """

    delta: float
    tolerance: float
    top_k: int
    players: int
    candidates: int
    audited: int
    pairs: int
    stopped: Literal["decided", "budget"]
    low: TopKClaims
    high: TopKClaims

    def of(self, end: End) -> TopKClaims:
        """What is shown of an end."""
        return self.low if end == "low" else self.high

    @property
    def scope(self) -> str:
        """Which players the claims are about, in words."""
        if self.candidates == self.players:
            return f"all {self.players:,} filters"
        return f"the {self.candidates:,} candidates and {self.audited:,} audited of {self.players:,} filters"

    @property
    def headline(self) -> str:
        """How many players are separated, and how surely."""
        return f"truly separated: {self._counts('separated')} (confidence {1 - self.delta:g}, among {self.scope})"

    def _counts(self, claim: Literal["separated", "certified"]) -> str:
        return " and ".join(f"{len(getattr(end, claim)):,} of the {self.top_k:,} {EXTREME[end.end]}" for end in (self.low, self.high))

    def __str__(self) -> str:
        """The headline, what holds up to the tolerance, why it stopped, and both ends."""
        reason = "both ends are decided" if self.stopped == "decided" else "the budget is spent"
        lines = [
            self.headline,
            f"right up to the tolerance, {self.tolerance:g} of the k-th value: {self._counts('certified')}",
            f"stopped after {self.pairs:,} pairs: {reason}",
        ]
        for end in (self.low, self.high):
            state = "decided" if end.decided else f"{end.undecided:,} filters may be misplaced by more"
            ties = f"; ties: {', '.join(end.ties)}" if end.ties else ""
            lines.append(f"  {EXTREME[end.end]}: {state} at a tolerance of {end.slack:.2g}{ties}")
            if end.audit is not None:
                lines.append(
                    f"  {EXTREME[end.end]}: missed by the screen at most {end.audit.count:,} filters, {end.audit.share:.1%} of those outside "
                    f"({end.audit.hits} of {end.audit.draws} audit draws may be such)"
                )
        return "\n".join(lines)
