"""Threat models: every kind of attack on every network of a report, and whether the attacks work at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from repairkit.attacks.generate import AdversarialSet, attack, batches, derived_seed, draw_targets, predict_pixels
from repairkit.attacks.methods import APGDT, DIFGSM, FGSM, MIFGSM, PGD, Method, Square
from repairkit.attacks.robustness import EPS_GRID, Robustness, Sanity, Sweep, attack_again, replay, sanity, sweep, worst
from repairkit.data.images import Indices, LabelledImages
from repairkit.errors import UsageError
from repairkit.evaluation.splits import some
from repairkit.evaluation.wording import format_count
from repairkit.experiments.attack_task import AttackBudget
from repairkit.network.classifier import Classifier
from repairkit.report.formatting import eps_text
from repairkit.run.context import Run
from repairkit.run.store import ARRAYS
from repairkit.shapley.checkpoint import Arrays

Measured = TypeVar("Measured", Robustness, Sweep, Sanity)
Kind = Literal["noise", "replay", "transfer", "black box", "adaptive", "worst"]
LEAST_CLASSES = 4
"""That APGD-T's loss compares."""
OTHER_DATA = (
    "images of another data set. Files and pixels were compared with the images of this run, but not the same photograph at another size"
)
UNMODIFIED = "made once against the unmodified network"


@dataclass(frozen=True, kw_only=True)
class ThreatModel:
    """Who attacks, and with what knowledge."""

    key: str
    kind: Kind
    title: str
    description: str
    targeted: bool = True  # it wants its target, else the true label lost
    elsewhere: bool = False  # its images are of another data set


@dataclass(frozen=True, kw_only=True, eq=False)
class AttackResult(ThreatModel):
    """What one threat model did to the same images on every network but the one that its images were made against."""

    outcomes: dict[str, Robustness]
    made: float = 0.0  # passes that its images cost

    @property
    def passes(self) -> float:
        """Image passes, of its images and of all columns."""
        return self.made + sum(outcome.passes for outcome in self.outcomes.values())

    @property
    def n(self) -> int:
        """How many images."""
        return len(next(iter(self.outcomes.values())))


@dataclass(frozen=True, eq=False)
class AttackedNetworks:
    """Results in the order of what the attacker knows; for each column how large a change it takes, and whether the attack works."""

    results: list[AttackResult]
    sweeps: dict[str, Sweep]
    checks: dict[str, Sanity]


def transfer_methods(eps: float) -> tuple[Method, ...]:
    """The attacks whose images are made on other networks, within the same bound."""
    return FGSM(eps=eps), MIFGSM(eps=eps, step=eps / 10), DIFGSM(eps=eps, step=eps / 10)


def cost(budget: AttackBudget, method: PGD, test: int, *, columns: int, carriers: int, elsewhere: int) -> float:
    """Image passes, about: with so many adversarial test images, networks, transfer models, and images of another data set."""
    carried, adaptive, checked = (min(count, test) for count in (budget.carried, budget.adaptive, budget.checked))
    single, momentum, diverse = (other.passes + 1 for other in transfer_methods(method.eps))
    made = carried * (single + momentum + diverse) * (1 + carriers) + elsewhere * (method.passes + 1 + (momentum if carriers else 0))
    replayed = test + carried * 3 * (1 + carriers) + elsewhere * (2 if carriers else 1)
    apgd = APGDT(steps=budget.apgd_steps, classes=budget.apgd_classes)
    adaptively = budget.restarts * (method.passes + apgd.passes + 2) + budget.queries + 4
    bounds = len(EPS_GRID) - (method.eps in EPS_GRID)  # adaptive PGD ran within its own bound before
    swept = adaptive * budget.restarts * bounds * (method.passes + 1) / 2  # most images give in half-way
    return made + columns * (replayed + adaptive * adaptively + swept + checked * 4.4 * method.passes)


def attack_networks(
    networks: Mapping[str, Classifier],
    stored: AdversarialSet,
    clean: LabelledImages,
    *,
    carriers: Mapping[str, Classifier],
    elsewhere: LabelledImages | None,
    budget: AttackBudget | None,
    run: Run,
) -> AttackedNetworks:
    """Run every threat model on every network; passes are spent in the phase at work.

    Args:
        networks: columns; "original" is one of them, and a transfer model may be.
        stored: the adversarial test images against the original network.
        clean: the same images without attack.
        carriers: transfer models by name; their images are not shown to themselves.
        elsewhere: images of another data set, attacked on the original and on the first transfer model.
        budget: None for noise and replay alone.
        run: stores finished results.
    """
    if not isinstance(stored.method, PGD):
        raise UsageError(f"expected images made by PGD, got {stored.method.title}")
    bench = _Bench(networks, stored.method, run)
    rows = some(clean, budget.carried if budget else len(clean), seed=run.settings.seed)
    images, targets = clean.subset(rows), stored.targets[rows]
    bench.add_noise(images, targets)
    bench.replay("replay", f"Replayed {stored.method.title} images", f"{_parameters(stored.method)}, {UNMODIFIED}", stored, paid=True)
    if budget is None:
        return AttackedNetworks(bench.results, {}, {})
    _add_replays(bench, images, targets, elsewhere)
    _add_transfers(bench, images, targets, carriers, elsewhere)
    rows = some(clean, budget.adaptive, seed=run.settings.seed)
    return _attack_adaptively(bench, clean.subset(rows), stored.targets[rows], budget)


def _add_replays(bench: _Bench, images: LabelledImages, targets: Indices, elsewhere: LabelledImages | None) -> None:
    """Images that other attacks make against the original network, and those of another data set."""
    original = bench.networks["original"]
    for method in transfer_methods(bench.method.eps)[1:]:  # one step against the network itself is a weaker PGD
        made = bench.make(original, images, targets, method)
        bench.replay(type(method).__name__, f"Replayed {method.title} images", f"{_parameters(method)}, {UNMODIFIED}", made)
    if elsewhere is not None:
        made = bench.make(original, elsewhere, bench.draw(elsewhere), bench.method)
        about = f"{_parameters(bench.method)}, made against the unmodified network on {OTHER_DATA}"
        bench.replay("elsewhere", f"Replayed PGD images of {elsewhere.name}", about, made)


def _add_transfers(
    bench: _Bench, images: LabelledImages, targets: Indices, carriers: Mapping[str, Classifier], elsewhere: LabelledImages | None
) -> None:
    """Images that are made against the transfer models; those of another data set against the first of them."""
    for number, (name, carrier) in enumerate(carriers.items(), start=1):
        for method in transfer_methods(bench.method.eps):
            made = bench.make(carrier, images, targets, method)
            about = f"{_parameters(method)}, made against {name}"
            bench.replay(f"{type(method).__name__}-{number}", f"{method.title} from {name}", about, made, against=carrier)
    if elsewhere is not None and carriers:
        (name, carrier), method = next(iter(carriers.items())), transfer_methods(bench.method.eps)[1]
        made = bench.make(carrier, elsewhere, bench.draw(elsewhere), method)
        about = f"{_parameters(method)}, made against {name} on {OTHER_DATA}"
        bench.replay("elsewhere-1", f"{method.title} images of {elsewhere.name} from {name}", about, made, against=carrier)


def _attack_adaptively(bench: _Bench, images: LabelledImages, targets: Indices, budget: AttackBudget) -> AttackedNetworks:
    """The attacks on each network itself, the worst of them, and how large a change it takes."""
    method, bound = bench.method, f"eps {eps_text(bench.method.eps)}/255"
    square = Square(eps=method.eps, queries=budget.queries, aimed=False)
    about = f"{bound}, {budget.queries} queries, sees logits and no gradient, wants the label lost"
    bench.add_attack("square", "Square", about, square, images, targets, 1)
    about = f"{_parameters(method)}, knows the network"
    bench.add_attack("pgd", "Adaptive PGD", about, method, images, targets, budget.restarts)
    if len(images.classes) >= LEAST_CLASSES:
        apgd = APGDT(eps=method.eps, steps=budget.apgd_steps, classes=min(budget.apgd_classes, len(images.classes) - 1))
        which = "the likeliest wrong class" if apgd.classes == 1 else f"the {apgd.classes} likeliest wrong classes"
        about = f"{bound}, {apgd.steps} steps, aims at {which}, knows the network, wants the label lost"
        bench.add_attack("apgd", "Adaptive APGD-T", about, apgd, images, targets, budget.restarts)
    adaptive = [result for result in bench.results if result.kind in ("black box", "adaptive")]
    bench.results.append(
        AttackResult(
            key="worst",
            kind="worst",
            title=f"Worst of {', '.join(result.title for result in adaptive)}",
            description="for each image the best attack counts; a gain under adaptive attack is claimed on this alone",
            targeted=False,
            outcomes={name: worst([result.outcomes[name] for result in adaptive]) for name in bench.networks},
        )
    )
    known = next(result.outcomes for result in adaptive if result.key == "pgd")
    few = np.arange(min(budget.checked, len(images)))
    sweeps, checks = {}, {}
    for name, network in bench.networks.items():
        swept = partial(sweep, network, images, targets, method, restarts=budget.restarts, known=known[name], **bench.options)
        sweeps[name] = bench.cached(Sweep, f"sweep-{budget.restarts}-{name}", swept)
        check = partial(sanity, network, images.subset(few), targets[few], method, **bench.options)
        checks[name] = bench.cached(Sanity, f"sanity-{name}", check)
    return AttackedNetworks(bench.results, sweeps, checks)


class _Bench:
    """The networks of a report, and the results on them so far."""

    def __init__(self, networks: Mapping[str, Classifier], method: PGD, run: Run) -> None:
        self.networks, self.method, self._run = networks, method, run
        self.options: dict[str, Any] = {"batch": run.settings.batch, "seed": run.settings.seed, "progress": run.ledger.progress}
        self.results: list[AttackResult] = []

    def cached(self, record: type[Measured], key: str, work: Callable[[], Measured]) -> Measured:
        """What the work gives, or what an earlier session stored of it."""

        def compute() -> Arrays:
            measured = work()
            self._run.spend(measured.passes)
            return {field: np.asarray(value) for field, value in vars(measured).items()}

        return record(**{field: _restored(value) for field, value in self._run.cached(key, compute, ARRAYS).items()})

    def draw(self, images: LabelledImages) -> Indices:
        """Targets of images of another data set."""
        return draw_targets(images.labels, len(images.classes), self._run.settings.seed)

    def make(self, network: Classifier, images: LabelledImages, targets: Indices, method: Method) -> AdversarialSet:
        """Adversarial images against one network."""
        return attack(network, images, targets, method, run=self._run, **self.options)

    def add_noise(self, images: LabelledImages, targets: Indices) -> None:
        """Noise, for comparison."""
        eps, batch, seed = self.method.eps, self.options["batch"], self.options["seed"]
        work = partial(noise, images=images, targets=targets, eps=eps, batch=batch, seed=seed)
        outcomes = {name: self.cached(Robustness, f"noise-{name}", partial(work, network)) for name, network in self.networks.items()}
        about = f"uniform noise within eps {eps_text(eps)}/255: no attack, for comparison"
        self.results.append(AttackResult(key="noise", kind="noise", title="Random noise", description=about, outcomes=outcomes))

    def add_attack(self, key: str, title: str, about: str, method: Method, images: LabelledImages, targets: Indices, restarts: int) -> None:
        """An attack on every network itself."""
        work = partial(attack_again, images=images, targets=targets, method=method, restarts=restarts, **self.options)
        outcomes = {
            name: self.cached(Robustness, f"{key}-{restarts}-{name}", partial(work, network)) for name, network in self.networks.items()
        }
        kind: Kind = "black box" if isinstance(method, Square) else "adaptive"
        about = f"{about}; {format_count(restarts, 'start')}"
        result = AttackResult(key=key, kind=kind, title=title, description=about, targeted=method.targeted, outcomes=outcomes)
        self.results.append(result)

    def replay(
        self, key: str, title: str, about: str, images: AdversarialSet, *, against: Classifier | None = None, paid: bool = False
    ) -> None:
        """Images shown to all networks but the transfer model that they were made `against`; where `paid`, making them is booked elsewhere."""
        work = partial(replay, attacked=images, batch=self.options["batch"], progress=self.options["progress"])
        outcomes = {
            name: self.cached(Robustness, f"{key}-{name}", partial(work, network))
            for name, network in self.networks.items()
            if network is not against
        }
        self.results.append(
            AttackResult(
                key=key,
                kind="replay" if against is None else "transfer",
                title=title,
                description=about,
                elsewhere=key.startswith("elsewhere"),
                outcomes=outcomes,
                made=0.0 if paid else len(images) * (images.method.passes + 1),
            )
        )


def noise(classifier: Classifier, images: LabelledImages, targets: Indices, eps: float, *, batch: int, seed: int) -> Robustness:
    """What a network answers to images under uniform noise within eps, which is no attack."""
    answers = []
    for rows in batches(np.arange(len(images)), batch):
        generator = torch.Generator().manual_seed(derived_seed(seed, int(rows[0])))
        pixels = images.batch(rows)
        answers.append(predict_pixels(classifier, (pixels + eps * (2 * torch.rand(pixels.shape, generator=generator) - 1)).clamp(0, 1)))
    predicted = np.concatenate(answers)
    return Robustness(predicted == targets, predicted == images.labels, float(len(images)))


def _restored(value: npt.NDArray[Any]) -> Any:
    """A field as it was before it was stored: numbers in a row are a tuple there."""
    if value.dtype == np.bool_:
        return value
    return tuple(value.tolist()) if value.ndim else value.item()


def _parameters(method: Method) -> str:
    steps = format_count(method.steps if isinstance(method, PGD | MIFGSM) else 1, "step")
    return f"{method.title}, L-infinity, eps {eps_text(method.eps)}/255, {steps}, targeted"
