"""From the findings of an adversarial repair to its result: all arithmetic of the report."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from repairkit.alternatives import report as beside
from repairkit.alternatives.adversarial_training import DESCRIPTION as HARDENED
from repairkit.baselines.evaluation import comparison
from repairkit.data.images import data_hash
from repairkit.data.training_hashes import read_record
from repairkit.evaluation.metrics import Metric, rank_correlation
from repairkit.evaluation.statistics import wilson
from repairkit.evaluation.wording import format_count
from repairkit.experiments.adversarial.report import (
    CLEAN,
    SUCCESS,
    AdversarialExtra,
    AdversarialResult,
    Adversary,
    FrontierPoint,
    RankCorrelation,
    Strength,
)
from repairkit.experiments.adversarial.rounds import CEILING, PRICES, Round
from repairkit.experiments.adversarial.run import CORRELATED_SHARE, AdversarialFindings
from repairkit.experiments.adversarial.verdict import (
    DECISIVE,
    Change,
    adversaries_of,
    measure_differences,
    measure_shares,
    measure_strengths,
    no_attack,
    sweep_points,
    verdict,
)
from repairkit.experiments.attack_task import PARTS, AttackOptions, AttackTask
from repairkit.experiments.records import COLUMNS, SCORES, by_column, guarantees_of, make_reproduction, value_histogram
from repairkit.report.formatting import limit
from repairkit.result import Alternative, Column, Comparison, Cost, Difference, FrozenFilter, Reproduction, Share, Verdict
from repairkit.run.options import Options

NAMES = {"attribute": "attribution", "choose": "selection", "report": "test"}
BOTH_VALUES = "attack-success and accuracy values (gradient estimates for every filter that moves either)"
RANKINGS = {
    "success - accuracy": "target success on the adversarial images minus clean accuracy (the default)",
    "success": "target success on the adversarial images alone (the paper's)",
}
EXPLANATIONS = COLUMNS | {
    HARDENED.key: (HARDENED.label, HARDENED.explanation),
    "finetuned": ("Fine-tuned alone", "The original network trained on the clean attribution images, with no filter frozen."),
}


def summarise(
    task: AttackTask,
    options: Options,
    attacks: AttackOptions,
    findings: AdversarialFindings,
    *,
    title: str,
    command: str,
    minutes: float,
    notices: list[str],
) -> AdversarialResult:
    """The result of a run."""
    return _Summary(task, options, attacks, findings).result(title, command, minutes, notices)


@dataclass(frozen=True, eq=False)
class _Summary:
    """A run, as its result shows it."""

    task: AttackTask
    options: Options
    attacks: AttackOptions
    findings: AdversarialFindings

    def result(self, title: str, command: str, minutes: float, notices: list[str]) -> AdversarialResult:
        findings, task, level = self.findings, self.task, self.options.level
        rounds, rows = findings.rounds, self.alternatives
        frozen = findings.patch.culprits if findings.patch else []
        attributions = [played.attribution for played in rounds]
        return AdversarialResult(
            kind="adversarial",
            title=title,
            created=datetime.datetime.now(datetime.UTC).date().isoformat(),
            notices=notices,
            level=level,
            model=f"{task.model.architecture}: {task.model.provenance}",
            objective=RANKINGS[self.attacks.ranking],
            verdict=self.verdict(len(frozen)),
            columns=[
                Column(key=key, label=beside.column_heading(key, EXPLANATIONS[key][0], rows), explanation=self.explanation(key))
                for key in findings.networks
            ],
            groups=[entry.key for entry in self.adversaries],
            shares=self.shares,
            differences=self.differences,
            frozen=[FrozenFilter(fold=0, column="repaired", **culprit.model_dump()) for culprit in frozen],
            histograms=[value_histogram(attributions, [culprit.value for culprit in frozen])] if rounds else [],
            method=(list(self.method()) if rounds else []) + beside.method(rows),
            costs=[Cost(part=part, passes=findings.passes.get(part, 0.0), seconds=seconds) for part, seconds in findings.seconds.items()],
            alternatives=rows,
            guarantees=[entry for attribution in attributions for entry in guarantees_of(attribution, "repaired", 0)],
            limits=[*self.limits(), *beside.limits(rows)],
            reproduction=self.reproduction(command, minutes),
            comparisons=by_column("repaired", self.comparison()),
            extra=self.extra(),
        )

    @cached_property
    def adversaries(self) -> list[Adversary]:
        return list(adversaries_of(self.findings.attacked.results))

    @cached_property
    def shares(self) -> list[Share]:
        return measure_shares(self.findings.attacked.results, self.findings.clean, self.options.level)

    @cached_property
    def differences(self) -> list[Difference]:
        return measure_differences(self.findings.attacked.results, self.findings.clean, self.options.level)

    @cached_property
    def strengths(self) -> list[Strength]:
        return measure_strengths(self.findings.attacked.sweeps, self.findings.attacked.checks)

    def extra(self) -> AdversarialExtra:
        findings, images, level = self.findings, self.task.images, self.options.level
        parts = {
            NAMES[part]: f"{len(getattr(findings.split, part)):,} clean images, {len(findings.made[part]):,} of them attacked"
            for part in PARTS
        }
        related = None if findings.screens is None else rank_correlation(findings.screens, level, BOTH_VALUES)
        return AdversarialExtra(
            images=f"{images.name}, {len(images):,} images of {len(np.unique(images.labels)):,} classes",
            parts=parts,
            attack=self.attack,
            adversaries=self.adversaries,
            frontier=list(self.frontier()),
            sweep=sweep_points(findings.attacked.sweeps, level),
            strengths=self.strengths,
            correlation=RankCorrelation(of=related.of, n=related.n, value=related.value) if related else None,
        )

    @property
    def attack(self) -> str:
        return f"{self.attacks.method.in_words}, targets drawn once and never the label, 8-bit images"

    def frontier(self) -> Iterator[FrontierPoint]:
        """The trade-off curves; the selected point is marked where the network there is the one that is handed over."""
        handed_over = len(self.findings.rounds) == 1 and not self.findings.trained
        for curve in self.findings.curves:
            for count, hit, right in zip(curve.counts, curve.hit, curve.clean, strict=True):
                success, low, high = wilson(int(hit.sum()), len(hit), self.options.level)
                clean, clean_low, clean_high = wilson(int(right.sum()), len(right), self.options.level)
                yield FrontierPoint(
                    series=curve.series,
                    filters=count,
                    n=len(hit),
                    success=success,
                    success_low=low,
                    success_high=high,
                    n_clean=len(right),
                    clean=clean,
                    clean_low=clean_low,
                    clean_high=clean_high,
                    chosen=handed_over and count == curve.chosen and count > 0,
                )

    def verdict(self, filters: int) -> Verdict:
        findings, epochs, level = self.findings, self.attacks.finetune_epochs, self.options.level
        if not findings.rounds:
            replayed = next(share for share in self.shares if (share.metric, share.group) == (SUCCESS, "replay"))
            return no_attack(replayed, [(int(findings.made[part].hit.sum()), len(findings.made[part])) for part in PARTS[:2]], level)
        undone = sum(played.tuned is not None and not played.tuned.kept for played in findings.rounds)
        change = Change(filters, epochs * findings.trained, epochs * undone)
        eps, max_drop = self.attacks.method.eps, self.options.max_clean_drop
        conclusion = verdict(self.differences, self.adversaries, self.strengths, change, eps=eps, max_drop=max_drop, level=level)
        decisive, name = [entry for entry in self.differences if entry.group in (None, *DECISIVE)], self.naming()
        deciding = [name(entry) for entry in decisive if entry.group == "replay"]
        return beside.with_alternatives(conclusion, self.alternatives, decisive, level=level, name=name, decisive=deciding)

    def naming(self) -> Callable[[Difference], str]:
        titles = {entry.key: entry.title for entry in self.adversaries}
        return lambda entry: entry.metric if entry.group is None else f"{entry.metric} under {titles[entry.group]}"

    def comparison(self) -> Comparison | None:
        """The first round beside baselines; None where nobody asked."""
        if self.findings.compared is None:
            return None
        first = self.findings.curves[0]
        strata = np.repeat(["stored", "clean"], [first.hit.shape[1], first.clean.shape[1]])
        success = Metric(SUCCESS, strata, {"stored": 1.0}, lower_is_better=True)
        accuracy = Metric(CLEAN, strata, {"clean": 1.0})
        weights = {"stored": 1.0, "clean": -1.0}
        both = Metric(f"{SUCCESS} minus {CLEAN}", strata, weights, lower_is_better=True, sizes=f"{success.n} stored and {accuracy.n} clean")
        return comparison(
            self.findings.compared,
            both if self.attacks.ranking == "success - accuracy" else success,
            order="most harmful first",
            before=np.concatenate([first.hit[0], first.clean[0]]).astype(np.float64),
            judged=(success, accuracy),
            strategy=self.options.strategy,
            level=self.options.level,
            seed=self.options.seed,
        )

    @cached_property
    def alternatives(self) -> list[Alternative]:
        """The repair beside adversarial fine-tuning and the other networks; empty where nobody asked, or the attack does not succeed."""
        findings = self.findings
        if findings.hardened is None:
            return []
        learned, valued, selected, test = len(findings.split.attribute), *(len(findings.made[part]) for part in PARTS)
        repaired = max(1, len(findings.rounds)) * (valued + selected)
        shares = dict.fromkeys(beside.STEPS, 1.0) | {
            "attack": repaired / (repaired + test),  # the rest was made for the evaluation
            "fine-tuning": 0.5,  # the other half was done with no filter frozen
        }
        passes, seconds = (0.5 * spent.get("fine-tuning", 0.0) for spent in (findings.passes, findings.seconds))
        rows = {
            "original": beside.row("original"),
            "repaired": beside.repair_row(findings.passes, findings.seconds, images=learned + len(findings.split.choose), shares=shares),
            "finetuned": beside.row("finetuned", images=learned, passes=passes, seconds=seconds),
            HARDENED.key: beside.rows([findings.hardened])[0],
            "dropout": beside.row("dropout"),
        }
        return [row for column, row in rows.items() if column in findings.networks or row.left_out]

    def explanation(self, column: str) -> str:
        """What a column is, with what this run did to it."""
        epochs = self.attacks.finetune_epochs
        if column == "repaired" and self.findings.trained:
            total = format_count(epochs * self.findings.trained, "epoch")
            return f"The culprits frozen at their mean. All other weights were trained on the clean attribution images for {total} in all."
        if column == "finetuned":
            total = format_count(epochs * sum(played.tuned is not None for played in self.findings.rounds), "epoch")
            return f"{EXPLANATIONS[column][1][:-1]}, for {total}. It has no guard on clean accuracy."
        return EXPLANATIONS[column][1]

    def reproduction(self, command: str, minutes: float) -> Reproduction:
        task, attacks = self.task, self.attacks
        hashes = {"model": task.model.sha256, "images": data_hash(task.images)}
        hashes |= {name: model.sha256 for name, model in task.named_others.items()}
        hashes |= {f"adversarial images ({NAMES[part]})": data_hash(made.images) for part, made in self.findings.made.items()}
        hashes |= {"another data set": data_hash(task.elsewhere)} if task.elsewhere else {}
        settings: dict[str, str] = {"ranking": attacks.ranking}
        settings |= {name: str(value) for name, value in vars(attacks).items() if name not in ("method", "effort", "ranking")}
        settings |= {f"attack {name}": str(value) for name, value in attacks.method.record().items()}
        settings |= {f"effort {name}": str(value) for name, value in vars(attacks.effort).items()}
        return make_reproduction(self.options, command=command, minutes=minutes, hashes=hashes, settings=settings)

    # ---- words ----

    def method(self) -> Iterator[str]:
        """How filters were valued, selected and frozen, a sentence or two each."""
        options, findings, several = self.options, self.findings, self.attacks.rounds > 1
        attribution = findings.rounds[0].attribution
        reached = " and ".join(f"{int(made.hit.sum())} of {len(made)} ({NAMES[part]})" for part, made in findings.made.items())
        yield f"The attack: {self.attack}. It reached its target on {reached} images."
        smooth = "sigmoid of the margin between the wanted logit and the next"
        yield f"Filters are ranked by {RANKINGS[self.attacks.ranking]}, {SCORES[options.score].format(smooth=smooth)}. The highest values are the culprits."
        yield (
            f"Players are {len(attribution.ids):,} filters of all convolutions but the classifier's. Constants are means "
            f"{'after' if options.freeze_at == 'post' else 'before'} the ReLU over {len(findings.split.attribute):,} clean attribution images."
        )
        each_round = " in each round" if several else ""
        yield f"Engine {attribution.engine}, {options.budget:,.0f} image passes{each_round}; {int((attribution.samples > 0).sum()):,} filters were valued exactly."
        if attribution.engine == "tmab":
            yield f"Live range, min_live = {attribution.min_live:g}: coalitions keep at least about that share of the filters live."
        else:
            yield (
                "No truncation."
                if attribution.truncation is None
                else f"Truncation below an objective value of {attribution.truncation:g}."
            )
        yield from self._selection(each_round)
        for number, played in enumerate(findings.rounds, start=1):
            yield from self._round(played, number)
        if options.precision != "float32":
            yield f"Passes of the attribution, and those that measure candidates, ran in {options.precision}; everything else ran in float32."
        if findings.ended:
            yield f"No further round was played: {findings.ended}."
        if several or self.attacks.finetune_epochs:
            yield "The trade-off curve shows the filters of the first round, with no weight trained."
        yield (
            f"The rank correlation is of gradient estimates at the same min_live, each from {CORRELATED_SHARE * options.budget:,.0f} image passes. "
            "Their noise pulls it toward zero. The paper's 0.3 is of Shapley values."
        )

    def _selection(self, each_round: str) -> Iterator[str]:
        options, (first, second, *_, last) = self.options, PRICES
        forward = options.strategy == "forward"
        price = f"{last / 100:g} logits"  # the paper's order tries no other
        if forward:
            price = f"{first / 100:g} logits ({second / 100:g} when no filter wins that much, and {last / 100:g} in the end)"
        strategy = "forward selection" if forward else "the highest values first (the paper)"
        yield f"Selection: {strategy} among up to {options.candidates} culprits, at most {options.max_filters} filters."
        yield (
            f"Selection raises the margin of the label over the target on adversarial images, up to {CEILING:g} logits. "
            f"There {price} outweigh a point of the label's mean probability on clean images."
        )
        yield (
            f"Guard: on the clean selection images the drop of accuracy stays under {limit(options.max_clean_drop / self.attacks.rounds)}{each_round}. "
            "The same holds for the one-sided 90 % bound on the drop of that probability, not adjusted for the number of filters tried."
        )

    def _round(self, played: Round, number: int) -> Iterator[str]:
        start, attributed = f"Round {number}: " if self.attacks.rounds > 1 else "", played.made["attribute"]
        again = f"the new attack reached its target on {int(attributed.hit.sum())} of {len(attributed)}; " if number > 1 else ""
        yield f"{start}{again}{played.choice.chosen} frozen; selection stopped because {played.choice.reason}."
        if (tuned := played.tuned) is not None:
            outcome = "held the guard" if tuned.kept else "broke the guard and was undone"
            yield (
                f"{start}{format_count(self.attacks.finetune_epochs, 'epoch')} of training {outcome}. Against the original network clean accuracy "
                f"drops by {100 * tuned.bound:.1f} points at most (the same bound, on the same images); {100 * tuned.allowed:g} are allowed."
            )
        if played.halved is not None:
            yield f"{start}memory ran out in the attribution, so its passes carried {played.halved} images in place of {self.options.batch}."

    def limits(self) -> Iterator[str]:
        """What a reader must not conclude."""
        task, findings = self.task, self.findings
        trained_on = len(read_record(task.model.weights))
        yield (
            f"The images share no file and no decoded image with the {trained_on:,} that the network was trained on, as far as recorded."
            if trained_on
            else "The training images were not at hand, so an overlap with them was not checked."
        )
        yield "Replayed images know nothing of the repair: when they fail, that does not say that the network is hard to fool."
        yield "Only changes bounded in L-infinity were tried: nothing is said about patches, rotations or other threat models."
        yield "Intervals speak of new images of the same kind for this network as it is; a new attribution is not in them."
        if findings.attacked.sweeps:
            images = min(self.attacks.effort.adaptive, len(findings.made["report"]))
            yield f"Adaptive attacks ran on {images:,} images with the budgets in their rows. Stronger ones exist, and an attack that fails proves nothing."
            yield (
                "The replayed images and the worst of the adaptive attacks are tested on their own, all other threat models together for each metric. "
                "The p-values are not adjusted over metrics and pairs of columns."
            )
        if task.dropout is None and findings.rounds:
            yield f"No dropout-trained {task.model.architecture} was compared: none was given."
        if self.options.alternatives and not findings.rounds:
            yield "No alternative was tried, since there was nothing to repair."
        if not task.carriers and findings.rounds:
            yield "There were no transfer attacks from another architecture: no such network with the same classes was given."
