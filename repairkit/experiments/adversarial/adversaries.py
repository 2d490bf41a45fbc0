"""Every kind of adversary on every network of a report: stored, carried over, query-based, adaptive, and whether the attacks work at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from repairkit.attacks.generate import Attacked, attack, batches, derived_seed, draw_targets, predict_pixels
from repairkit.attacks.methods import APGDT, DIFGSM, FGSM, MIFGSM, PGD, Method, Square
from repairkit.attacks.robustness import EPS_GRID, Outcome, Sanity, Sweep, afresh, replay, sanity, sweep, worst
from repairkit.attacks.words import eps_text
from repairkit.data.images import Indices, LabelledImages
from repairkit.errors import UsageError
from repairkit.evaluation.splits import some
from repairkit.network.classifier import Classifier
from repairkit.run.context import Run
from repairkit.run.store import ARRAYS
from repairkit.shapley.checkpoint import Arrays

Measured = TypeVar("Measured", Outcome, Sweep, Sanity)
Kind = Literal["noise", "replay", "transfer", "black box", "adaptive", "worst"]
LEAST_CLASSES = 4
"""That APGD-T's loss compares."""
OTHER_DATA = (
    "images of another data set (an overlap with the images of this run was looked for by file and by pixels; "
    "the same photograph at another size was not checked for)"
)


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How much the evaluation spends; the defaults fit two cores.

    Attributes:
        carried: report images that other networks' attacks are made on, and noise.
        adaptive: report images that are attacked afresh on each network.
        restarts: starts of PGD and of APGD-T afresh, and of PGD within each bound of the sweep; a further one goes on with the images that held.
        queries: of Square.
        apgd_steps: of APGD-T; apgd_classes: that it aims at.
        checked: images of the sanity checks.

    Raises:
        UsageError: one below 1.

    Example:
        >>> Effort(adaptive=0)
        Traceback (most recent call last):
        repairkit.errors.UsageError: adaptive must be at least 1, got 0
    """

    carried: int = 200
    adaptive: int = 64
    restarts: int = 2
    queries: int = 500
    apgd_steps: int = 30
    apgd_classes: int = 1
    checked: int = 16

    def __post_init__(self) -> None:
        for name, number in vars(self).items():
            if number < 1:
                raise UsageError(f"{name} must be at least 1, got {number}")

    def passes(self, method: PGD, report: int, *, columns: int, carriers: int, elsewhere: int) -> float:
        """Image passes, about: with so many adversarial report images, networks judged, other networks, and images of another data set."""
        carried, adaptive, checked = (min(count, report) for count in (self.carried, self.adaptive, self.checked))
        single, momentum, diverse = (each.passes + 1 for each in transferred(method.eps))
        made = carried * (single + momentum + diverse) * (1 + carriers) + elsewhere * (method.passes + 1 + (momentum if carriers else 0))
        replayed = report + carried * 3 * (1 + carriers) + elsewhere * (2 if carriers else 1)
        apgd = APGDT(steps=self.apgd_steps, classes=self.apgd_classes)
        fresh = self.restarts * (method.passes + apgd.passes + 2) + self.queries + 4
        bounds = len(EPS_GRID) - (method.eps in EPS_GRID)  # PGD afresh was run within its own before
        swept = adaptive * self.restarts * bounds * (method.passes + 1) / 2  # most images give in half-way
        return made + columns * (replayed + adaptive * fresh + swept + checked * 4.4 * method.passes)


THOROUGH = Effort(carried=1000, adaptive=1000, restarts=5, queries=5000, apgd_steps=100, apgd_classes=9, checked=64)
"""The full suite, for a GPU or a night; on as many images as there are."""
EMBEDDED = Effort(carried=40, adaptive=12, queries=200, checked=4)
"""For the embedded default, which is there to be tried in minutes."""


PRESETS = {"quick": EMBEDDED, "standard": Effort(), "full": THOROUGH}


def preset(name: str) -> Effort:
    """The effort of this name, see `PRESETS`."""
    return PRESETS[name]


def effort_for(given: Mapping[str, int], *, thorough: bool, device: str, embedded: bool) -> Effort:
    """The effort of a command or a recipe: the full suite where it is asked for or a GPU is there, and little for the embedded default on any device.

    Args:
        given: fields that are set, whatever the rest.
        thorough: the full suite was asked for.
        device: "cpu" or "cuda".
        embedded: whether the data are those that come with repairkit.

    Example:
        >>> effort_for({}, thorough=False, device="cuda", embedded=False) == THOROUGH
        True
        >>> effort_for({"queries": 7}, thorough=False, device="cuda", embedded=True) == replace(EMBEDDED, queries=7)
        True
    """
    if thorough or (device == "cuda" and not embedded):
        return replace(THOROUGH, **given)
    return replace(EMBEDDED if embedded else Effort(), **given)


@dataclass(frozen=True, eq=False)
class Attempt:
    """What one adversary did to the same images on every network.

    Attributes:
        key: short and unique.
        kind: what he knows.
        title, description: who he is, in words.
        targeted: he wants his target, else the true label lost.
        outcomes: for each column but the network that his images were made against and that he does not attack afresh.
        made: image passes that his images cost.
        elsewhere: his images are of another data set than everybody else's.
    """

    key: str
    kind: Kind
    title: str
    description: str
    targeted: bool
    outcomes: dict[str, Outcome]
    made: float = 0.0
    elsewhere: bool = False

    @property
    def passes(self) -> float:
        """Image passes, of his images and of all columns."""
        return self.made + sum(outcome.passes for outcome in self.outcomes.values())

    @property
    def n(self) -> int:
        """How many images."""
        return len(next(iter(self.outcomes.values())))


@dataclass(frozen=True, eq=False)
class Judged:
    """Adversaries in the order of what they know, and for each column how much change it takes and whether the attack works."""

    attempts: list[Attempt]
    sweeps: dict[str, Sweep]
    checks: dict[str, Sanity]


def transferred(eps: float) -> tuple[Method, ...]:
    """The attacks whose images are carried over from other networks, within the same bound."""
    return FGSM(eps=eps), MIFGSM(eps=eps, step=eps / 10), DIFGSM(eps=eps, step=eps / 10)


def judge(
    networks: Mapping[str, Classifier],
    stored: Attacked,
    clean: LabelledImages,
    *,
    carriers: Mapping[str, Classifier],
    elsewhere: LabelledImages | None,
    effort: Effort | None,
    run: Run,
) -> Judged:
    """Run every adversary on every network.

    Stored images are those that filters were found against, others that another attack makes against the unmodified network, and those of another
    data set. Images that are carried over are made against the `carriers`, those of the other data set against the first; none of these is held
    against itself. With `effort` None only noise and replay are judged.

    Args:
        networks: columns; "original" is one of them, and a carrier may be.
        stored: the adversarial report images against the original network.
        clean: the same images, not attacked.
        carriers: other networks of the same classes, by name.
        elsewhere: images of another data set: attacked as `stored` was, against the original, and with MI-FGSM against the first carrier.
        effort: how much to spend.
        run: stores finished outcomes; the passes are spent in the phase at work.
    """
    method = stored.method
    if not isinstance(method, PGD):
        raise UsageError(f"expected images made by PGD, got {method.title}")
    bench = _Bench(networks, run)
    batch, seed = run.settings.batch, run.settings.seed
    few = some(clean, effort.carried if effort else len(clean), seed=seed)
    carried, aims = clean.subset(few), stored.targets[few]
    bench.add(
        "noise",
        "noise",
        "Random noise",
        f"uniform noise within eps {eps_text(method.eps)}/255: no adversary, for comparison",
        lambda each: noise(each, carried, aims, method.eps, batch=batch, seed=seed),
    )
    bench.replay("replay", "replay", "Stored PGD images", f"{_of(method)}, made once against the unmodified network", stored, paid=True)
    if effort is None:
        return Judged(bench.attempts, {}, {})
    for how in transferred(method.eps)[1:]:  # one step against the network itself is a weaker PGD
        made = bench.made(networks["original"], carried, aims, how)
        bench.replay(
            type(how).__name__, "replay", f"Stored {how.title} images", f"{_of(how)}, made once against the unmodified network", made
        )
    if elsewhere is not None:
        made = bench.made(networks["original"], elsewhere, draw_targets(elsewhere.labels, len(elsewhere.classes), seed), method)
        about = f"{_of(method)}, made against the unmodified network on {OTHER_DATA}"
        bench.replay("elsewhere", "replay", f"Stored PGD images of {elsewhere.name}", about, made, elsewhere=True)
    for number, (name, against) in enumerate(carriers.items(), start=1):
        for how in transferred(method.eps):
            made = bench.made(against, carried, aims, how)
            key, title = f"{type(how).__name__}-{number}", f"{how.title} from {name}"
            bench.replay(key, "transfer", title, f"{_of(how)}, made against {name}", made, against=against)
    if elsewhere is not None and carriers:
        (name, against), how = next(iter(carriers.items())), transferred(method.eps)[1]
        made = bench.made(against, elsewhere, draw_targets(elsewhere.labels, len(elsewhere.classes), seed), how)
        about = f"{_of(how)}, made against {name} on {OTHER_DATA}"
        bench.replay(
            "elsewhere-1", "transfer", f"{how.title} images of {elsewhere.name} from {name}", about, made, against=against, elsewhere=True
        )
    rows = some(clean, effort.adaptive, seed=seed)
    return _afresh(bench, clean.subset(rows), stored.targets[rows], method, effort)


def _afresh(bench: _Bench, images: LabelledImages, targets: Indices, method: PGD, effort: Effort) -> Judged:
    """The adversaries who attack each network itself, the worst of them, and how much change it takes."""
    bound = f"eps {eps_text(method.eps)}/255"

    def attacked(key: str, kind: Kind, title: str, about: str, how: Method, starts: int) -> None:
        said = f"{about}; {starts} start{'' if starts == 1 else 's'}"
        work = partial(afresh, images=images, targets=targets, method=how, restarts=starts, **bench.settings)
        bench.add(key, kind, title, said, work, targeted=how.targeted, kept_as=f"{key}-{starts}")

    square = Square(eps=method.eps, queries=effort.queries, aimed=False)
    about = f"{bound}, {effort.queries} queries, sees logits and no gradient, wants the label lost"
    attacked("square", "black box", "Square", about, square, 1)
    attacked("pgd", "adaptive", "PGD afresh", f"{_of(method)}, knows the network", method, effort.restarts)
    if len(images.classes) >= LEAST_CLASSES:
        apgd = APGDT(eps=method.eps, steps=effort.apgd_steps, classes=min(effort.apgd_classes, len(images.classes) - 1))
        which = "the likeliest wrong class" if apgd.classes == 1 else f"the {apgd.classes} likeliest wrong classes"
        about = f"{bound}, {apgd.steps} steps, aims at {which}, knows the network, wants the label lost"
        attacked("apgd", "adaptive", "APGD-T afresh", about, apgd, effort.restarts)
    together = [attempt for attempt in bench.attempts if attempt.kind in ("black box", "adaptive")]
    bench.attempts.append(
        Attempt(
            "worst",
            "worst",
            f"Worst of {', '.join(attempt.title for attempt in together)}",
            "for each image the adversary who does best; a gain under adaptive attack is claimed on this alone",
            False,
            {name: worst([attempt.outcomes[name] for attempt in together]) for name in bench.networks},
        )
    )
    few = np.arange(min(effort.checked, len(images)))
    sweeps, checks = {}, {}
    within = next(attempt.outcomes for attempt in together if attempt.key == "pgd")
    for name, each in bench.networks.items():
        swept = partial(sweep, each, images, targets, method, restarts=effort.restarts, known=within[name], **bench.settings)
        sweeps[name] = bench.once(Sweep, f"sweep-{effort.restarts}-{name}", swept)
        check = partial(sanity, each, images.subset(few), targets[few], method, **bench.settings)
        checks[name] = bench.once(Sanity, f"sanity-{name}", check)
    return Judged(bench.attempts, sweeps, checks)


class _Bench:
    """The networks that are judged, and the attempts on them so far."""

    def __init__(self, networks: Mapping[str, Classifier], run: Run) -> None:
        self.networks, self._run = networks, run
        self.settings: dict[str, Any] = {"batch": run.settings.batch, "seed": run.settings.seed, "progress": run.ledger.progress}
        self.attempts: list[Attempt] = []

    def once(self, what: type[Measured], name: str, work: Callable[[], Measured]) -> Measured:
        """What the work gives, or what an earlier session stored of it."""

        def made() -> Arrays:
            found = work()
            self._run.spend(found.passes)
            return {field: np.asarray(value) for field, value in vars(found).items()}

        return what(**{field: _revived(value) for field, value in self._run.cached(name, made, ARRAYS).items()})

    def add(
        self,
        key: str,
        kind: Kind,
        title: str,
        description: str,
        work: Callable[[Classifier], Outcome],
        *,
        targeted: bool = True,
        kept_as: str = "",
    ) -> None:
        """One more adversary, on every network."""
        outcomes = {name: self.once(Outcome, f"{kept_as or key}-{name}", partial(work, each)) for name, each in self.networks.items()}
        self.attempts.append(Attempt(key, kind, title, description, targeted, outcomes))

    def replay(
        self,
        key: str,
        kind: Kind,
        title: str,
        description: str,
        images: Attacked,
        *,
        against: Classifier | None = None,
        paid: bool = False,
        elsewhere: bool = False,
    ) -> None:
        """One who shows made images to all networks but the one that they were made `against`; where `paid`, making them is booked elsewhere."""
        settings = {name: value for name, value in self.settings.items() if name != "seed"}
        outcomes = {
            name: self.once(Outcome, f"{key}-{name}", partial(replay, each, images, **settings))
            for name, each in self.networks.items()
            if each is not against
        }
        cost = 0.0 if paid else len(images) * (images.method.passes + 1)
        self.attempts.append(Attempt(key, kind, title, description, True, outcomes, cost, elsewhere))

    def made(self, against: Classifier, images: LabelledImages, targets: Indices, how: Method) -> Attacked:
        """Adversarial images against one network."""
        return attack(against, images, targets, how, run=self._run, **self.settings)


def noise(classifier: Classifier, images: LabelledImages, targets: Indices, eps: float, *, batch: int, seed: int) -> Outcome:
    """What a network says to images under uniform noise within eps, which is no attack."""
    said = []
    for rows in batches(np.arange(len(images)), batch):
        generator = torch.Generator().manual_seed(derived_seed(seed, int(rows[0])))
        pixels = images.batch(rows)
        said.append(predict_pixels(classifier, (pixels + eps * (2 * torch.rand(pixels.shape, generator=generator) - 1)).clamp(0, 1)))
    found = np.concatenate(said)
    return Outcome(found == targets, found == images.labels, float(len(images)))


def _revived(value: npt.NDArray[Any]) -> Any:
    """A field of an outcome, as it was before it was kept: numbers in a row are a tuple there."""
    if value.dtype == np.bool_:
        return value
    return tuple(value.tolist()) if value.ndim else value.item()


def _of(method: Method) -> str:
    steps = f", {method.steps} steps" if isinstance(method, PGD | MIFGSM) else ", 1 step"
    return f"{method.title}, L-infinity, eps {eps_text(method.eps)}/255{steps}, targeted"
