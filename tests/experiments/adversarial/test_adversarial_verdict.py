"""What threat models did, in numbers, and what the verdict makes of it."""

from dataclasses import replace

import brittle
import numpy as np
import pytest
import torch
from adversarial_toy import ATTACKS, LITTLE, OPTIONS, repaired, result_of, task
from scipy import stats

from repairkit.attacks import robustness
from repairkit.attacks.methods import APGDT
from repairkit.attacks.robustness import Robustness, Sanity, Sweep
from repairkit.evaluation.metrics import rank_correlation
from repairkit.experiments.adversarial.adversaries import attack_networks, cost
from repairkit.experiments.adversarial.report import Strength
from repairkit.experiments.adversarial.run import repair
from repairkit.experiments.adversarial.verdict import (
    Change,
    adversaries_of,
    measure_differences,
    measure_strengths,
    sweep_points,
    verdict,
)
from repairkit.experiments.attack_task import attacked_rows
from repairkit.network.weights import hash_state
from repairkit.run.context import Run


def conclude(results, clean, strengths=(), *, max_drop=0.05, differences=None):
    """The verdict on a repair with four frozen filters."""
    differences = measure_differences(results, clean, 0.95) if differences is None else differences
    return verdict(differences, list(adversaries_of(results)), strengths, Change(4), eps=16 / 255, max_drop=max_drop, level=0.95)


def by_key(differences, pair=("original", "repaired")):
    return {(entry.metric, entry.group): entry for entry in differences if (entry.first, entry.second) == pair}


def unrepaired(results, kinds=("worst", "adaptive", "black box")):
    """Results in which the repair helps against none of these kinds."""
    return [
        replace(result, outcomes=result.outcomes | {"repaired": result.outcomes["original"]}) if result.kind in kinds else result
        for result in results
    ]


# ---- numbers ----


def test_shares_and_differences_are_counts_over_the_same_images():
    _, findings, result = repaired()
    replayed = next(entry for entry in findings.attacked.results if entry.key == "replay")
    before, after = (result.share(column, "target success", "replay") for column in ("original", "repaired"))
    assert (after.n, after.value) == (40, replayed.outcomes["repaired"].hit.mean())
    change = by_key(result.differences)["target success", "replay"]
    assert (change.value, change.claim) == (pytest.approx(after.value - before.value), "better")
    untargeted = {entry.key for entry in findings.attacked.results if not entry.targeted}
    assert untargeted == {"square", "apgd", "worst"}
    assert not any(entry.metric == "target success" and entry.group in untargeted for entry in result.shares)


def test_the_worst_row_counts_the_labels_that_survive_all_adaptive_attacks():
    rows = {entry.key: entry.outcomes["original"].recovered for entry in repaired()[1].attacked.results}
    np.testing.assert_array_equal(rows["worst"], rows["square"] & rows["pgd"] & rows["apgd"])


def test_the_sweep_and_adaptive_pgd_say_the_same_of_the_same_bound():
    _, findings, _ = repaired()
    pgd = next(entry for entry in findings.attacked.results if entry.key == "pgd")
    for column, swept in findings.attacked.sweeps.items():
        bound = swept.eps.index(ATTACKS.method.eps)
        np.testing.assert_array_equal(swept.hit[bound], swept.hit[bound - 1] | pgd.outcomes[column].hit)


def test_restarts_are_those_of_pgd_apgd_and_the_sweep(monkeypatch):
    toy, findings, _ = repaired()
    stored, used, tries = findings.made["report"], [], robustness._tries
    monkeypatch.setattr(
        robustness, "_tries", lambda *given: used.append((type(given[3]).__name__, round(given[3].eps * 255, 4), given[5])) or tries(*given)
    )
    clean = toy.images.subset(attacked_rows(toy, findings.split, OPTIONS, ATTACKS)["report"])
    budget, run = replace(ATTACKS.effort, restarts=3, adaptive=4, queries=2, checked=1), Run.start(OPTIONS)
    with run.phase("evaluation"):
        networks = {"original": toy.model.classifier}
        attacked = attack_networks(networks, stored, clean, carriers={}, elsewhere=None, budget=budget, run=run)
    starts = {(name, eps): restarts for name, eps, restarts in reversed(used)}  # the sanity checks come last
    assert (starts["PGD", 16.0], starts["PGD", 0.0625], starts["APGDT", 16.0], starts["Square", 16.0]) == (3, 3, 3, 1)
    assert {point.restarts for point in sweep_points(attacked.sweeps, 0.95)} == {3}
    planned = [cost(replace(budget, restarts=restarts), stored.method, 40, columns=2, carriers=0, elsewhere=0) for restarts in (1, 3)]
    once, apgd = stored.method.passes + 1, APGDT(steps=budget.apgd_steps, classes=budget.apgd_classes).passes + 1
    assert planned[1] - planned[0] == pytest.approx(2 * 2 * 4 * (once + apgd + (len(robustness.EPS_GRID) - 1) * once / 2))


def test_images_are_not_shown_to_the_network_that_they_were_made_on_and_transfer_attacks_have_a_mean():
    dropout, other = brittle.model(), brittle.model()
    for number, model in enumerate((dropout, other), start=1):
        with torch.no_grad():
            model.classifier.network[4].bias += 0.01 * number
    dropout, other = (replace(model, sha256=hash_state(model.classifier.network.state_dict())) for model in (dropout, other))
    toy = replace(task(), dropout=dropout, carriers=(other, brittle.model(brittle=False)))
    assert list(toy.named_others) == ["toy", "toy (2)", "dropout-trained toy"]
    attacks = replace(LITTLE, effort=replace(LITTLE.effort, carried=8))
    findings = repair(toy, Run.start(OPTIONS), attacks)
    result = result_of(toy, OPTIONS, attacks, findings)
    shown = {entry.key: set(entry.outcomes) for entry in findings.attacked.results}
    everywhere = {"original", "repaired", "dropout"}
    assert {key for key, columns in shown.items() if columns != everywhere} == {"FGSM-3", "MIFGSM-3", "DIFGSM-3"}
    assert shown["FGSM-3"] == {"original", "repaired"}
    assert result.groups[-7:] == ["DIFGSM-3", "transfer-mean", "elsewhere-1", "square", "pgd", "apgd", "worst"]
    singles = [f"{method}-{number}" for method in ("FGSM", "MIFGSM", "DIFGSM") for number in (1, 2, 3)]
    for metric in ("target success", "recovered label"):
        for column in ("original", "repaired"):
            mean = result.share(column, metric, "transfer-mean")
            assert (mean.n, mean.value) == (8, pytest.approx(np.mean([result.share(column, metric, key).value for key in singles])))
        change = by_key(result.differences)[metric, "transfer-mean"]
        assert change.low < change.value < change.high
        assert change.p_value is None
    against_dropout = {entry.group for entry in result.differences if entry.first == "dropout"}
    assert "replay" in against_dropout
    assert not against_dropout & {"FGSM-3", "transfer-mean"}
    assert any(sentence.startswith("Against the dropout-trained network: ") for sentence in result.verdict.sentences)


def test_the_mean_over_transfer_attacks_counts_images_and_not_attacks():
    """The same images five times over are no more images: the interval is that of one attack."""
    replayed = next(entry for entry in repaired()[1].attacked.results if entry.key == "replay")
    before, after = (Robustness(np.arange(40) < hits, np.arange(40) >= hits, 40.0) for hits in (30, 20))
    alike = [replace(replayed, key=f"FGSM-{n}", kind="transfer", outcomes={"original": before, "repaired": after}) for n in range(5)]
    right = {column: np.ones(40, bool) for column in ("original", "repaired")}
    changes = by_key(measure_differences(alike, right, 0.95))
    mean, single = changes["target success", "transfer-mean"], changes["target success", "FGSM-0"]
    assert (mean.n, mean.value, mean.claim) == (40, pytest.approx(-0.25), "better")
    assert mean.high - mean.low == pytest.approx(single.high - single.low, rel=0.15)
    assert ("target success", "transfer-mean") not in by_key(measure_differences(alike[:1], right, 0.95))


def test_the_claims_that_the_verdict_rests_on_do_not_pay_for_the_other_rows():
    """Eight images of eight: p = .008, which Holm over a dozen threat models would throw away."""
    _, findings, _ = repaired()
    eight = [
        replace(entry, outcomes={name: Robustness(o.hit[:8], o.recovered[:8], 8.0) for name, o in entry.outcomes.items()})
        for entry in findings.attacked.results
    ]
    changes = by_key(measure_differences(eight, findings.clean, 0.95))
    worst, pgd = changes["recovered label", "worst"], changes["recovered label", "pgd"]
    assert (worst.p_adjusted, worst.claim) == (worst.p_value, "better")
    assert worst.p_value == pytest.approx(2 * 0.5**8)
    assert pgd.p_adjusted > pgd.p_value


def test_the_sign_test_counts_images_that_need_a_larger_eps():
    def swept(rows):
        return Sweep((0.1, 0.2), np.array(rows), 0)

    before, after = swept([[True] * 8, [True] * 8]), swept([[False] * 7 + [True], [True] * 8])
    fine = Sanity((0.1,), np.ones((1, 8), bool), (1,), np.ones((1, 8), bool), np.ones(8, bool), np.zeros(8, bool), 0)
    original, repaired_one = measure_strengths({"original": before, "repaired": after}, {"original": fine, "repaired": fine})
    assert (original.median_eps, original.gained, repaired_one.median_eps) == (0.1, None, 0.2)
    assert (repaired_one.gained, repaired_one.lost, repaired_one.p_value) == (7, 0, pytest.approx(2 * 0.5**7))


def test_the_rank_correlation_leaves_out_filters_that_move_nothing():
    screens = np.array([[0.0, 0.0, 1, 2, 3, 4, 5], [0.0, 0.0, 2, 1, 3, 5, 4]])
    related = rank_correlation(screens, 0.95, "values")
    assert (related.n, round(related.value, 2)) == (5, 0.8)
    assert rank_correlation(np.zeros((2, 9)), 0.95, "values") is None


# ---- the verdict ----


def test_a_gain_against_the_worst_attack_is_a_repair_and_one_on_replayed_images_says_so():
    _, findings, _ = repaired()
    results, clean = findings.attacked.results, findings.clean
    assert conclude(results, clean).outcome == "repaired"
    assert conclude(unrepaired(results), clean).outcome == "repaired against stored images"
    assert conclude(unrepaired(results, ("worst", "adaptive", "black box", "replay")), clean).outcome == "no claim"
    assert verdict([], [], [], Change(0), eps=16 / 255, max_drop=0.05, level=0.95).outcome == "no repair"


def test_attacks_that_do_not_work_make_no_repair():
    _, findings, result = repaired()
    flagged = [entry.model_copy(update={"flags": ["the gradient vanishes"]}) for entry in result.extra.strengths]
    said = conclude(findings.attacked.results, findings.clean, flagged)
    assert said.outcome == "repaired against stored images"
    assert "original network: the gradient vanishes; repaired network: the gradient vanishes" in said.sentences[-1]


@pytest.mark.parametrize(
    ("lost", "max_drop", "outcome"),
    [
        (2, 0.01, "repaired"),  # within chance
        (2, 0.2, "repaired"),
        (10, 0.01, "guard broken"),
        (10, 0.2, "repaired"),
        (80, 0.05, "guard broken"),
        (80, 1.0, "repaired"),
    ],
)
def test_a_measurable_drop_of_clean_accuracy_beyond_the_guard_is_no_repair(lost, max_drop, outcome):
    _, findings, _ = repaired()
    clean = findings.clean["original"] & (np.arange(80) >= lost)
    said = conclude(findings.attacked.results, findings.clean | {"repaired": clean}, max_drop=max_drop)
    assert said.outcome == outcome
    assert said.sentences[: len(said.worse)] == said.worse
    assert len(said.worse) == 1


def test_threat_models_of_a_kind_are_named_where_they_differ_and_counted_where_they_do_not():
    _, findings, _ = repaired()
    replayed = next(entry for entry in findings.attacked.results if entry.key == "replay")
    three = [replace(replayed, key=f"stored-{number}", title=f"attack {number}") for number in (1, 2, 3)]
    alike = unrepaired(three, ("replay",))

    def about_replayed(results):
        return next(sentence for sentence in conclude(results, findings.clean).sentences if sentence.startswith("Replayed images"))

    assert "under all 3." in about_replayed(three)
    assert "attack" not in about_replayed(three)
    assert "inconclusive under all 3." in about_replayed(alike)
    assert all(f"attack {number}" in about_replayed([*three[:2], alike[2]]) for number in (1, 2, 3))


@pytest.mark.parametrize(("gained", "lost", "said"), [(52, 0, "larger"), (1, 30, "smaller"), (5, 3, None)])
def test_a_larger_eps_that_pgd_needs_is_a_fact_about_pgd_and_no_gain(gained, lost, said):
    _, findings, result = repaired()
    p_value = float(stats.binomtest(gained, gained + lost).pvalue)
    facts = {"n": 64, "median_eps": 0.5 / 255, "checked": 4, "flags": []}
    strengths = [
        Strength(column="original", gained=None, lost=None, p_value=None, **facts),
        Strength(column="repaired", gained=gained, lost=lost, p_value=p_value, **facts),
    ]
    inconclusive = [entry.model_copy(update={"claim": "no claim"}) for entry in result.differences]
    found = conclude(findings.attacked.results, findings.clean, strengths, differences=inconclusive)
    assert found.outcome == "no claim"
    alone = [sentence for sentence in found.sentences if "PGD alone needs" in sentence]
    assert len(alone) == (said is not None)
    assert not said or f"a {said} eps" in alone[0]
