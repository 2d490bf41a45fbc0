"""Adversarial repair from data to findings: attack, find filters against the attack, choose, freeze, and be judged by other adversaries."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from importlib.metadata import version
from typing import Literal, get_args

import numpy as np
import torch

from repairkit.alternatives import PART, Tried
from repairkit.attributing import attribute, game_of, within_memory, zone_of
from repairkit.baselines import suspects
from repairkit.clock import Clock
from repairkit.comparing import Compared, by_harm, compare, planned, with_after
from repairkit.critical import check_fit, check_takes, grid, said_with
from repairkit.data.images import Indices, LabelledImages
from repairkit.errors import DataError, UsageError
from repairkit.evaluation.adversarial import HARDENED
from repairkit.evaluation.adversaries import Effort, Judged, judge
from repairkit.evaluation.alternatives import adversarial_training
from repairkit.evaluation.alternatives.adversarial_training import MOST_IMAGES
from repairkit.evaluation.attack_methods import PGD
from repairkit.evaluation.attacks import Attacked, Booleans, attack, derived_seed, draw_targets
from repairkit.evaluation.splits import Split, check_disjoint, some, three_way, ungrouped
from repairkit.fairness import DOWNSTREAM, ZONE_SIZES, check_guard, choose_once, labelled_hash, normalisation_of, patch_of, without
from repairkit.filters import ConvFilters
from repairkit.models.classifier import Classifier
from repairkit.models.finetuning import finetune
from repairkit.models.zoo import LoadedModel
from repairkit.objectives import Accuracy, AttackSuccess, Smooth, Worth
from repairkit.options import Options
from repairkit.outputs import outputs
from repairkit.patch import Patch
from repairkit.repair import Choice, Measure, drop_bound, eligible
from repairkit.shapley import Attribution
from repairkit.shapley.game import Examples, Floats
from repairkit.shapley.model_game import ModelGame
from repairkit.shapley.rounds import GRADIENT_COST
from repairkit.shapley.star import screen
from repairkit.shapley.walk import Progress
from repairkit.shapley.zone import POINT_PASSES, Zone
from repairkit.unfinished import KeptNetwork, Unfinished

Ranking = Literal["success - accuracy", "success"]
Series = Literal["order of choosing", "highest value first"]
SHARES = (0.3, 0.3, 0.4)
"""Of the clean images, that find, choose and report, unless told otherwise."""
MAX_CLEAN_DROP = 0.03
"""Guard, unless told otherwise: the paper gives up seven points."""
PARTS = ("attribute", "choose", "report")
LEAST = 10
"""Adversarial images of each part that must reach their target for filters to be found against the attack."""
FOOLED = 0.05
"""Share of the adversarial images, but those taken for their target anyway, that must reach it; with no more the attack does not fool the network."""
CEILING = 3.0
"""Logits by which the label may lie above the target before more of it counts as no better."""
PRICES = (300.0, 100.0, 30.0, 10.0)
"""Logits of margin on adversarial images that must be won for the whole probability of the label on clean ones, in the order that choosing asks them:
three for a point at first, so that it begins with what costs nothing, and a tenth of a logit in the end, where the guard alone sets the limit."""
CORRELATED_SHARE = 0.15
"""Of the budget, for each of the two screens whose rank correlation is reported."""


@dataclass(frozen=True, kw_only=True)
class AttackOptions:
    """Every choice about the adversary; `repairkit.options.Options` holds those of finding and choosing.

    Attributes:
        method: the attack that filters are found against.
        ranking: worth whose values rank the filters: "success - accuracy" (attack success minus clean accuracy, the default) or
            "success" (attack success alone, the paper's).
        images: adversarial images that find, choose and report, at most.
        rounds: how often filters are found and frozen; each further round attacks the network that the last one left.
        finetune_epochs: epochs of training on the clean attribution images after each round, the filters staying frozen; undone where they
            break the guard on the clean images that choose.
        frontier: most filters on the frontier of attack success and clean accuracy.
        effort: of the evaluation.

    Raises:
        UsageError: a value out of its range.
    """

    method: PGD = field(default_factory=PGD)
    ranking: Ranking = "success - accuracy"
    images: tuple[int, int, int] = (200, 200, 400)
    rounds: int = 1
    finetune_epochs: int = 0
    frontier: int = 64
    effort: Effort = field(default_factory=Effort)

    def __post_init__(self) -> None:
        if self.ranking not in get_args(Ranking):
            raise UsageError(f"ranking must be {' or '.join(map(repr, get_args(Ranking)))}, got {self.ranking!r}")
        if min(self.images) < LEAST:
            raise UsageError(f"images must be at least {LEAST} that find, choose and report each, got {self.images}")
        if self.method.eps * 255 < 1 - 1e-6:
            raise UsageError(f"stored images have 8 bits, which hold no change below 1/255, got eps {self.method.eps:g}")
        for name, least in (("rounds", 1), ("finetune_epochs", 0), ("frontier", 1)):
            if (number := getattr(self, name)) < least:
                raise UsageError(f"{name} must be at least {least}, got {number}")


@dataclass(frozen=True)
class AdversarialTask:
    """A network, clean images of its classes, and who else takes part in judging the repair.

    Attributes:
        model: the network to repair.
        images: clean, labelled by the columns of its logits.
        carriers: networks of the same classes that images are made against to be carried over to this one.
        elsewhere: images of another data set, attacked and replayed, none of which finds or chooses.
        dropout: the same architecture trained with filter dropout, to compare with.

    Raises:
        DataError: other classes than the network's, images that were seen in training, or an image in both data sets.
        UsageError: a carrier that is the network itself, or a dropout-trained network of another architecture.
        ModelError: a network that cannot take images of this size, or that answers with probabilities or what is not finite.
    """

    model: LoadedModel
    images: LabelledImages
    carriers: tuple[LoadedModel, ...] = ()
    elsewhere: LabelledImages | None = None
    dropout: LoadedModel | None = None

    def __post_init__(self) -> None:
        data = {"report": self.images} | ({} if self.elsewhere is None else {"elsewhere": self.elsewhere})
        check_disjoint(**data)
        if self.dropout is not None and self.dropout.architecture != self.model.architecture:
            raise UsageError(
                f"the dropout-trained network is a {self.dropout.architecture}, the model a {self.model.architecture}; give one of the same architecture"
            )
        if any(each.sha256 == self.model.sha256 for each in self.carriers):
            raise UsageError("a network that images are carried over from is the very one to repair; give another")
        for images in data.values():
            for judged in (self.model, *([self.dropout] if self.dropout else [])):
                check_fit(judged, images)
            for carrier in self.carriers:
                check_takes(carrier, images)

    @property
    def others(self) -> tuple[LoadedModel, ...]:
        """All networks but the one to repair."""
        return (*self.carriers, *([self.dropout] if self.dropout else []))

    @property
    def named_others(self) -> dict[str, LoadedModel]:
        """All networks but the one to repair, by names of which no two are alike."""
        named: dict[str, LoadedModel] = {}
        for each in self.others:
            name = f"{'dropout-trained ' if each is self.dropout else ''}{each.architecture}"
            alike = sum(known.partition(" (")[0] == name for known in named)
            named[f"{name} ({alike + 1})" if alike else name] = each
        return named


@dataclass(frozen=True)
class Tuned:
    """Whether training after a round held the guard: fall of clean accuracy against the network as it was given, on the clean images that choose.

    Attributes:
        bound: one-sided 90 % bound of the fall of the label's probability, and no less than that of accuracy; as in choosing.
        allowed: the share of the guard of all rounds so far.
    """

    bound: float
    allowed: float

    @property
    def kept(self) -> bool:
        """False: the epochs were undone."""
        return self.bound <= self.allowed + 1e-12


@dataclass(frozen=True, eq=False)
class Round:
    """One time that filters were found and frozen.

    Attributes:
        made: adversarial images against the network of this round that found and chose.
        filters: the players with their constants.
        attribution, choice, patch: what was found, chosen and made of it.
        zone: where t0 was measured.
        halved: images of a pass of the attribution, where memory ran out.
        tuned: what became of the training after it; None where there was none.
    """

    made: dict[str, Attacked]
    filters: ConvFilters
    attribution: Attribution
    choice: Choice
    patch: Patch
    zone: Zone | None
    halved: int | None
    tuned: Tuned | None = None


@dataclass(frozen=True, eq=False)
class FrontierLine:
    """Filters of the first round frozen in one order, on the report images: who gets the target, who is right on clean images.

    Attributes:
        series: the order.
        counts: how many were frozen, 0 first; shape (k,).
        hit: bool, shape (k, N), of the stored adversarial images.
        clean: bool, shape (k, M), of the clean ones.
        chosen: how many of them the repair froze, where this is the order of choosing.
    """

    series: Series
    counts: tuple[int, ...]
    hit: Booleans
    clean: Booleans
    chosen: int | None


@dataclass(frozen=True, eq=False)
class AdversarialFindings:
    """Everything measured; `repairkit.adversarial_summary` turns it into a result.

    Attributes:
        split: clean images that find, choose and report.
        made: the adversarial images against the network as it was given, by part; `report` are those that are replayed.
        rounds: empty where the attack does not fool the network.
        networks: the columns of the report; "repaired" is what is handed over.
        clean: for each column bool, shape (M,), who is right on the clean report images.
        judged: what every adversary did to every column.
        frontier: of the filters of the first round.
        screens: of attack success and of accuracy for every filter, shape (2, n).
        ended: why no further round was played, in words; empty where all were.
        compared: the first round with baselines; None where nobody asked, or no round was played.
        hardened: what adversarial fine-tuning cost; None where nobody asked, or the attack does not fool the network.
        taken: of the passes those whose images an earlier run left in the cache, by part.
    """

    split: Split
    made: dict[str, Attacked]
    rounds: list[Round]
    networks: dict[str, Classifier]
    clean: dict[str, Booleans]
    judged: Judged
    frontier: list[FrontierLine]
    screens: Floats | None
    ended: str
    compared: Compared | None
    passes: dict[str, float]
    seconds: dict[str, float]
    hardened: Tried | None = None
    taken: dict[str, float] = field(default_factory=dict)

    @property
    def trained(self) -> int:
        """After how many rounds the repaired network was trained further, and that was not undone."""
        return sum(each.tuned is not None and each.tuned.kept for each in self.rounds)

    @property
    def patch(self) -> Patch | None:
        """All filters of all rounds (perhaps none), for the weights as they were given; None where no round was played."""
        if not self.rounds:
            return None
        culprits = [culprit for each in self.rounds for culprit in each.patch.culprits]
        return self.rounds[0].patch.model_copy(update={"culprits": culprits})


def split_of(task: AdversarialTask, options: Options, attacks: AttackOptions) -> Split:
    """The clean images that find, choose and report, stratified by class.

    Raises:
        DataError: too few images, or too few that choose to show that the guard holds.
    """
    shares = options.target_shares
    needed = int(np.ceil(LEAST / min(shares)))
    if len(task.images) < needed:
        raise DataError(
            f"{task.images.name} has {len(task.images)} images, but {needed} are needed: {LEAST} in each part; give more images"
        )
    split = three_way(ungrouped(task.images), shares=shares, seed=options.seed)
    check_guard(len(split.choose), options.max_clean_drop / attacks.rounds, task.images.name)
    return split


def attacked_rows(task: AdversarialTask, split: Split, options: Options, attacks: AttackOptions) -> dict[str, Indices]:
    """Positions of the clean images of each part that are attacked, spread evenly over the classes."""
    images = ungrouped(task.images)
    parts = ((name, getattr(split, name), count) for name, count in zip(PARTS, attacks.images, strict=True))
    return {name: rows[some(images.subset(rows), count, seed=options.seed)] for name, rows, count in parts}


def plan(task: AdversarialTask, options: Options, attacks: AttackOptions) -> dict[str, float]:
    """Image passes that a run will make, by part; choosing assumes a path of six filters, the evaluation that most images give in to a small eps."""
    split = split_of(task, options, attacks)
    sizes = {name: len(rows) for name, rows in attacked_rows(task, split, options, attacks).items()}
    attacked = attacks.method.passes + 1
    scored = 2 * sizes["choose"]
    steps = min(6, options.max_filters)
    choosing = scored * (1 + steps + DOWNSTREAM * 3 * options.candidates) + steps * len(split.choose)
    columns = 2 + (task.dropout is not None) + (attacks.finetune_epochs > 0) + options.alternatives
    points = 2 * len(grid(attacks.frontier)) + 1
    training = GRADIENT_COST * attacks.finetune_epochs * len(split.attribute) * 2 * attacks.rounds
    training += 2 * len(split.choose) * attacks.rounds if training else 0
    compared = planned(
        options,
        images=sizes["attribute"] + (len(split.attribute) if attacks.ranking == "success - accuracy" else 0),
        points=len(grid(attacks.frontier)),
        report=sizes["report"] + len(split.report),
        choosing=choosing,
    )
    return (
        {"attack": attacked * sizes["report"] + attacks.rounds * (attacked + 1) * (sizes["attribute"] + sizes["choose"])}
        | {"calibration": float(attacks.rounds * len(split.attribute))}
        | ({"live zone": attacks.rounds * 2.0 * ZONE_SIZES * POINT_PASSES} if options.t0 == "auto" else {})
        | {"attribution": attacks.rounds * options.budget, "correlation": 2 * CORRELATED_SHARE * options.budget}
        | {"choosing": attacks.rounds * choosing}
        | ({"fine-tuning": training} if training else {})
        | {"frontier": float(points * (sizes["report"] + len(split.report)))}
        | ({"baselines": compared} if options.compare else {})
        | ({PART: adversarial_training.passes_of(attacks.method, min(MOST_IMAGES, len(split.attribute)))} if options.alternatives else {})
        | {
            "evaluation": columns * len(split.report)
            + attacks.effort.passes(
                attacks.method,
                sizes["report"],
                columns=columns,
                carriers=len(task.others),
                elsewhere=len(task.elsewhere) if task.elsewhere else 0,
            )
        }
    )


def configuration(task: AdversarialTask, options: Options, attacks: AttackOptions) -> dict[str, object]:
    """Everything that decides the bits of a run, as JSON can hold it."""
    return options.configuration | {
        "attack": asdict(attacks),
        "models": {name: [each.sha256[:16], *normalisation_of(each)] for name, each in {"": task.model, **task.named_others}.items()},
        "images": labelled_hash(task.images),
        "elsewhere": labelled_hash(task.elsewhere) if task.elsewhere else None,
        "threads": torch.get_num_threads(),
        "version": f"{version('repairkit')} with torch {torch.__version__}",
    }


def repair(
    task: AdversarialTask,
    options: Options,
    attacks: AttackOptions,
    *,
    progress: Progress | None = None,
    workers: int = 1,
    unfinished: Unfinished | None = None,
) -> AdversarialFindings:
    """Attack the network, freeze the filters that let the attack through, and judge the result by adversaries of every kind.

    Args:
        task: networks and images.
        options: of finding and choosing; `target_shares` cut the clean images.
        attacks: of the adversary and the evaluation.
        progress: told of what is at work, the passes made and those planned.
        workers: processes that attribute (`tmab` only); any number gives the same bits.
        unfinished: where attributions, choices and what adversaries did are kept as the work goes, and taken up again.
    """
    split = split_of(task, options, attacks)
    clock = Clock(
        progress,
        sum(plan(task, options, attacks).values()),
        kept=unfinished,
    )
    rows = attacked_rows(task, split, options, attacks)
    targets = draw_targets(task.images.labels, len(task.images.classes), options.seed)

    def attacked(classifier: Classifier, part: str) -> Attacked:
        with clock.part("attack"):
            made = attack(
                classifier,
                task.images.subset(rows[part]),
                targets[rows[part]],
                attacks.method,
                batch=options.batch,
                seed=options.seed,
                progress=clock.tell,
            )
            clock.take("attack", made.passes, len(made) * (attacks.method.passes + 1))
        return made

    for each in (task.model, *task.others):
        each.classifier.to(memory_format=torch.channels_last)  # faster on a CPU, gradients too
    original = task.model.classifier
    made = {part: attacked(original, part) for part in PARTS}
    networks = {"original": original}
    rounds: list[Round] = []
    screens: Floats | None = None
    frontier: list[FrontierLine] = []
    ended = ""
    hardened: Tried | None = None
    if won(task, original, made, rows, options, clock):
        repaired = alone = original
        clean = task.images.subset(split.attribute)
        for number in range(attacks.rounds):
            kept = unfinished.network(f"round-{number + 1}") if unfinished else None
            clock.prefix = f"round {number + 1}" if attacks.rounds > 1 else ""
            against = made if number == 0 else {part: attacked(repaired, part) for part in PARTS[:2]}
            if number and (ended := out_of_reach(task, repaired, against, rows, options, clock)):
                ended = f"in round {number + 1} {ended}"
                break
            found, repaired = find_and_freeze(task, repaired, against, split, options, attacks, rounds, clock, workers, kept)
            rounds.append(found)
            if not found.choice.chosen:
                ended = f"in round {number + 1} no filter was worth freezing"
                break
            if attacks.finetune_epochs:
                repaired, alone, rounds[-1] = tune(task, repaired, alone, rounds, split, options, attacks, clock, kept)
        clock.prefix = ""
        screens = part_screens(task, rounds[0], made, split, options, clock, unfinished)
        frontier = list(frontier_of(task, rounds[0], made["report"], split, options, attacks, clock, unfinished))
        if any(each.choice.chosen for each in rounds):
            networks |= {"repaired": repaired} | ({"finetuned": alone} if attacks.finetune_epochs else {})
        hardened = harden(task, networks, clean, options, attacks, clock, unfinished) if options.alternatives else None
    if task.dropout is not None:
        networks["dropout"] = task.dropout.classifier
    with clock.part("evaluation"):
        report = task.images.subset(split.report)
        right = {name: outputs(each, report, options, clock).argmax(1) == report.labels for name, each in networks.items()}
        judged = judge(
            networks,
            made["report"],
            task.images.subset(rows["report"]),
            carriers={name: each.classifier for name, each in task.named_others.items()},
            elsewhere=task.elsewhere,
            effort=attacks.effort if rounds else None,
            batch=options.batch,
            seed=options.seed,
            kept=unfinished.network("evaluation") if unfinished else None,
            clock=clock,
        )
    compared = compare_first(task, rounds, frontier, made["report"], split, options, attacks, clock, unfinished)
    return AdversarialFindings(
        split, made, rounds, networks, right, judged, frontier, screens, ended, compared, clock.passes, clock.seconds, hardened, clock.taken
    )


def moved(classifier: Classifier, made: Attacked, clean: LabelledImages, options: Options, clock: Clock) -> Attacked:
    """Those adversarial images that the network does not take for their target without any attack: with few classes a mistake often hits it."""
    already = outputs(classifier, clean, options, clock, part="attack").argmax(1) == made.targets
    return made.subset(np.flatnonzero(~already))


def fooled(made: Sequence[Attacked]) -> bool:
    """Whether the attack reaches its target on a twentieth of all these images, however few they are."""
    return sum(int(each.hit.sum()) for each in made) > FOOLED * sum(map(len, made))


def too_few(made: Sequence[Attacked]) -> str:
    """Where too few images of a part reach their target for filters to be found, that and what would do, in words; else ""."""
    if all(int(each.hit.sum()) >= LEAST for each in made):
        return ""
    hits = [int(each.hit.sum()) for each in made]
    rate = sum(hits) / sum(map(len, made))
    counts = " and ".join(f"{hit} of {len(each)}" for hit, each in zip(hits, made, strict=True))
    return (
        f"the attack takes {counts} images to their target, and {LEAST} in each part are needed to find filters by: at this rate ({100 * rate:.0f} %) "
        f"attack {math.ceil(LEAST / rate)} or more in each"
    )


def of_the_attack(
    task: AdversarialTask, classifier: Classifier, made: dict[str, Attacked], rows: dict[str, Indices], options: Options, clock: Clock
) -> list[Attacked]:
    """The images that find and choose, without those that the network takes for their target anyway."""
    with clock.part("attack"):
        return [moved(classifier, made[part], task.images.subset(rows[part]), options, clock) for part in PARTS[:2]]


def won(
    task: AdversarialTask, original: Classifier, made: dict[str, Attacked], rows: dict[str, Indices], options: Options, clock: Clock
) -> bool:
    """Whether the attack fools the network as it was given.

    Raises:
        DataError: it does, but on too few images; says how many must be attacked.
    """
    if not fooled(of_the_attack(task, original, made, rows, options, clock)):
        return False
    check_hits([made[part] for part in PARTS[:2]], task.images.name)
    return True


def out_of_reach(
    task: AdversarialTask, repaired: Classifier, made: dict[str, Attacked], rows: dict[str, Indices], options: Options, clock: Clock
) -> str:
    """Why a further round cannot be played against the network that the last one left, in words; "" where it can."""
    if not fooled(of_the_attack(task, repaired, made, rows, options, clock)):
        return "the attack no longer fooled the network"
    return too_few([made[part] for part in PARTS[:2]])


def check_hits(made: Sequence[Attacked], name: str) -> None:
    """Enough images of a network that is fooled reach their target.

    Raises:
        DataError: too few do; says how many must be attacked.
    """
    if why := too_few(made):
        raise DataError(f"{name}: {why}; give more images, or let more of them be attacked (--attacked)")


def worth_on(adversarial: Attacked, clean: LabelledImages, options: Options, attacks: AttackOptions) -> Worth:
    """The worth whose values rank the filters; values that are high are harmful."""
    success, accuracy = (Smooth(each) if options.score == "smooth" else each for each in (AttackSuccess(), Accuracy()))
    worth = success.on(adversarial.toward_targets)
    return worth - accuracy.on(clean) if attacks.ranking == "success - accuracy" else worth


def margins(adversarial: Attacked, clean: LabelledImages) -> Measure:
    """What choosing gains in: the margin of the label over the target on adversarial images, clipped above; the label's probability on clean ones.

    Networks are certain about adversarial images: probabilities are flat there, and so is a margin that is clipped below.
    """
    labels = np.concatenate([adversarial.images.labels, clean.labels])
    targets = np.concatenate([adversarial.targets, clean.labels])

    def measure(logits: torch.Tensor, examples: Examples) -> Floats:
        logs = torch.log_softmax(logits.double().cpu(), dim=1).numpy()
        each = np.arange(len(examples))
        own, toward = logs[each, labels[examples]], logs[each, targets[examples]]
        measured: Floats = np.where(examples < len(adversarial), np.minimum(own - toward, CEILING), np.exp(own))
        return measured

    return measure


def find_and_freeze(
    task: AdversarialTask,
    classifier: Classifier,
    made: dict[str, Attacked],
    split: Split,
    options: Options,
    attacks: AttackOptions,
    earlier: list[Round],
    clock: Clock,
    workers: int = 1,
    kept: KeptNetwork | None = None,
) -> tuple[Round, Classifier]:
    """One round on the network as the earlier rounds left it; every round may spend an equal share of the guard."""
    clean = task.images.subset(split.attribute)
    with clock.part("calibration"):
        game = game_of(classifier, worth_on(made["attribute"], clean, options, attacks), (clean,), options)
        clock.add("calibration", len(clean))
    seed = options.seed + len(earlier)
    zone, t0 = zone_of(game, options, seed=seed, clock=clock, kept=kept)
    with clock.part("attribution"):
        found = attribute(game, options, budget=options.budget, seed=seed, t0=t0, clock=clock, workers=workers, kept=kept)
        clock.add("attribution", sum(found.passes.values()))
    found = without(found, [str(culprit.filter) for each in earlier for culprit in each.patch.culprits])
    choice = choose_against(task, classifier, game.filters, found, made["choose"], split, options, attacks, clock, kept)
    patch = patch_of(task.model, game.filters, found, choice, game.stake, options.freeze_at)
    repaired = classifier.with_network(patch.apply(classifier.network, check=not earlier))
    halved = game.batch if game.batch < options.batch else None
    return Round(made, game.filters, found, choice, patch, zone, halved), repaired


def choose_against(
    task: AdversarialTask,
    classifier: Classifier,
    filters: ConvFilters,
    found: Attribution,
    adversarial: Attacked,
    split: Split,
    options: Options,
    attacks: AttackOptions,
    clock: Clock,
    kept: KeptNetwork | None,
    part: str = "choosing",
) -> Choice:
    """What to freeze of an attribution's culprits, on the adversarial and the clean images that choose; booked under a part of the run."""
    clean = task.images.subset(split.choose)
    return choose_once(
        classifier,
        filters,
        found,
        (Accuracy().on(ungrouped(adversarial.images)), Accuracy().on(clean)),
        replace(options, max_clean_drop=options.max_clean_drop / attacks.rounds),
        clock,
        kept,
        measure=margins(adversarial, clean),
        source_weights=PRICES,
        guarded="probability",
        source_for_gains=len(adversarial),
        part=part,
    )


def train_on(
    task: AdversarialTask,
    repaired: Classifier,
    alone: Classifier,
    rounds: list[Round],
    clean: LabelledImages,
    options: Options,
    attacks: AttackOptions,
    kept: KeptNetwork | None,
) -> tuple[Classifier, Classifier]:
    """Both networks trained further on the clean attribution images: the repaired one with its filters frozen, the other as it is.

    What an earlier session trained is kept, since training again need not give the same bits on every device.
    """
    frozen = {name: value for each in rounds for name, value in each.patch.constants.items()}
    trained = []
    for name, network, held in (("repaired", repaired, frozen), ("alone", alone, None)):
        saved = kept.arrays(f"tuned-{name}") if kept else None
        if saved is not None:
            tuned = network.with_weights({key: torch.from_numpy(value) for key, value in saved.items()})
        else:
            seed = options.seed + len(rounds) - 1
            tuned = finetune(network, clean, epochs=attacks.finetune_epochs, frozen=held, freeze_at=options.freeze_at, seed=seed)
            if kept is not None:
                kept.keep_arrays(f"tuned-{name}", **{key: value.cpu().numpy() for key, value in tuned.network.state_dict().items()})
        trained.append(tuned)
    return trained[0], trained[1]


def tune(
    task: AdversarialTask,
    repaired: Classifier,
    alone: Classifier,
    rounds: list[Round],
    split: Split,
    options: Options,
    attacks: AttackOptions,
    clock: Clock,
    kept: KeptNetwork | None,
) -> tuple[Classifier, Classifier, Round]:
    """Both networks trained further, the repaired one as it was where training breaks its guard; and the last round with what was measured."""
    learned, clean = task.images.subset(split.attribute), task.images.subset(split.choose)
    with clock.part("fine-tuning"):
        tuned, alone = train_on(task, repaired, alone, rounds, learned, options, attacks, kept)
        clock.add("fine-tuning", 2 * GRADIENT_COST * attacks.finetune_epochs * len(learned))
        said = [outputs(each, clean, options, clock, part="fine-tuning") for each in (task.model.classifier, tuned)]
    names = np.arange(len(clean)), clean.labels
    before, after = (torch.softmax(torch.from_numpy(logits), dim=1).numpy()[names] for logits in said)
    right, still = ((logits.argmax(1) == clean.labels).astype(np.float64) for logits in said)
    bound = drop_bound(before - after, right - still, np.full(len(clean), 1 / len(clean)), np.full(len(clean), "clean"))
    held = Tuned(bound, options.max_clean_drop * len(rounds) / attacks.rounds)
    return (tuned if held.kept else repaired), alone, replace(rounds[-1], tuned=held)


def harden(
    task: AdversarialTask,
    networks: dict[str, Classifier],
    clean: LabelledImages,
    options: Options,
    attacks: AttackOptions,
    clock: Clock,
    unfinished: Unfinished | None,
) -> Tried:
    """What one would do instead is added to the networks: the original trained on clean attribution images, 500 at most, under a short attack."""
    images = clean.subset(some(ungrouped(clean), MOST_IMAGES, seed=options.seed))
    passes = adversarial_training.passes_of(attacks.method, len(images))
    kept = unfinished.network("instead") if unfinished else None
    saved = kept.arrays(HARDENED) if kept else None
    classifier = task.model.classifier
    with clock.part(PART, restored=saved is not None):
        if saved is None:
            began = time.perf_counter()
            tuned = adversarial_training.train_against(
                classifier,
                images,
                attacks.method,
                batch_size=options.batch,
                seed=options.seed,
                progress=lambda step, steps, _: clock.tell("adversarial fine-tuning", passes * step / steps, passes),
            )
            saved = {f"network.{key}": value.cpu().numpy() for key, value in tuned.network.state_dict().items()}
            saved["seconds"] = np.array(time.perf_counter() - began)
            if kept is not None:
                kept.keep_arrays(HARDENED, **saved)
        clock.add(PART, passes)
    weights = {key.removeprefix("network."): torch.from_numpy(value) for key, value in saved.items() if key.startswith("network.")}
    short = adversarial_training.shortened(attacks.method)
    about = f"{adversarial_training.EPOCHS} epochs over {len(images):,} images under {short.steps} steps of {short.step * 255:.3g}/255"
    networks[HARDENED] = classifier.with_weights(weights)
    return Tried(HARDENED, len(images), passes, float(saved["seconds"]), about)


def part_screens(
    task: AdversarialTask,
    first: Round,
    made: dict[str, Attacked],
    split: Split,
    options: Options,
    clock: Clock,
    unfinished: Unfinished | None = None,
) -> Floats:
    """Gradient estimates of the values of attack success alone and of accuracy alone, for every filter; shape (2, n)."""
    parts = [AttackSuccess().on(made["attribute"].toward_targets), Accuracy().on(task.images.subset(split.attribute))]
    return screens_of(
        task.model.classifier,
        first.filters,
        parts,
        options,
        passes=CORRELATED_SHARE * options.budget,
        t0=first.attribution.t0,
        batch=first.halved or options.batch,
        clock=clock,
        part="correlation",
        kept=unfinished.network("correlation") if unfinished else None,
    )


def screens_of(
    classifier: Classifier,
    filters: ConvFilters,
    worths: Sequence[Worth],
    options: Options,
    *,
    passes: float,
    t0: float,
    batch: int,
    clock: Clock,
    part: str,
    kept: KeptNetwork | None,
) -> Floats:
    """Gradient estimates of the values of every filter for each worth, shape (len(worths), n); booked under this part of the work.

    Each has random numbers of its own, also of the same worth: the same coalitions would feign agreement.
    """
    if kept is not None and (saved := kept.arrays("screens")) is not None:
        clock.restore(part, len(worths) * passes)
        found: Floats = saved["screens"]
        return found
    screens = []
    with clock.part(part):
        for number, worth in enumerate(worths):
            game = ModelGame(classifier, filters, worth, batch=batch, precision=options.precision)
            how = partial(screen, game, passes=passes, seed=derived_seed(options.seed, number), t0=t0, progress=clock.tell)
            screens.append(within_memory(game, how, kept=None, name=part))
            clock.add(part, passes)
    if kept is not None:
        kept.keep_arrays("screens", screens=np.stack(screens))
    return np.stack(screens)


def frontier_of(
    task: AdversarialTask,
    first: Round,
    stored: Attacked,
    split: Split,
    options: Options,
    attacks: AttackOptions,
    clock: Clock,
    unfinished: Unfinished | None = None,
) -> Iterator[FrontierLine]:
    """Filters frozen in the order of choosing (after the chosen ones those of highest value), and by value alone."""
    classifier, filters = task.model.classifier, first.filters
    clean = task.images.subset(split.report)
    by_value = eligible(filters, first.attribution, attacks.frontier)
    chosen = first.choice.players
    orders: dict[Series, list[int]] = {
        "order of choosing": [*chosen, *(player for player in by_value if player not in chosen)],
        "highest value first": by_value,
    }
    kept = unfinished.network("frontier") if unfinished else None
    for series, order in orders.items():
        players = order[: attacks.frontier]
        counts = grid(len(players))
        if series == "order of choosing":
            counts = tuple(sorted({*counts, len(chosen)}))
        saved = kept.arrays(series.replace(" ", "-")) if kept else None
        if saved is not None:
            clock.restore("frontier", float(len(counts) * (len(stored) + len(clean))))
        else:
            hits, rights = [], []
            with clock.part("frontier"):
                for count in counts:
                    frozen = np.array(players[:count], dtype=np.int64)
                    hits.append(said_with(classifier, filters, stored.images, frozen, options.batch) == stored.targets)
                    rights.append(said_with(classifier, filters, clean, frozen, options.batch) == clean.labels)
                    clock.add("frontier", len(stored) + len(clean))
                    clock.tell("frontier", 0, 0)
            saved = {"hit": np.stack(hits), "clean": np.stack(rights)}
            if kept is not None:
                kept.keep_arrays(series.replace(" ", "-"), **saved)
        yield FrontierLine(series, counts, saved["hit"], saved["clean"], len(chosen) if series == "order of choosing" else None)


def compare_first(
    task: AdversarialTask,
    rounds: Sequence[Round],
    frontier: Sequence[FrontierLine],
    stored: Attacked,
    split: Split,
    options: Options,
    attacks: AttackOptions,
    clock: Clock,
    unfinished: Unfinished | None = None,
) -> Compared | None:
    """Baselines beside the Shapley values of the first round: along the frontier, and choosing from their candidates.

    What is counted of a stored image is whether it gets the target, of a clean one whether it is right; stored images come first. None where
    nobody asked or no round was played.
    """
    if not rounds or not options.compare:
        return None
    first = rounds[0]
    classifier, filters = task.model.classifier, first.filters
    clean = task.images.subset(split.report)
    worth = worth_on(first.made["attribute"], task.images.subset(split.attribute), options, attacks)
    game = ModelGame(classifier, filters, worth, batch=first.halved or options.batch, precision=options.precision)
    counted = {line.series: np.concatenate([line.hit, line.clean], axis=1) for line in frontier}
    lines = {line.series: line for line in frontier}

    def measure(frozen: Sequence[int]) -> Booleans:
        players = np.array(frozen, dtype=np.int64)
        hit = said_with(classifier, filters, stored.images, players, options.batch) == stored.targets
        return np.concatenate([hit, said_with(classifier, filters, clean, players, options.batch) == clean.labels])

    compared = compare(
        game,
        first.attribution,
        options,
        seed=options.seed,
        counts=lines["highest value first"].counts,
        score=by_harm,
        order=lambda found: eligible(filters, suspects(found), attacks.frontier),
        measure=measure,
        clock=clock,
        right=counted["highest value first"],
        choose=lambda found, own: choose_against(
            task, classifier, filters, suspects(found), first.made["choose"], split, options, attacks, clock, own, part="baselines"
        ),
        choice=first.choice,
        kept=unfinished.network("round-1") if unfinished else None,
    )
    chosen = lines["order of choosing"].counts.index(first.choice.chosen)
    return with_after(compared, counted["order of choosing"][chosen].astype(np.float64))
