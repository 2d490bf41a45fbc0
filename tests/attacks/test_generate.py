from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import oracles
import pytest
import tiny_faces
import torch
from networks import randomised
from torch import nn

from repairkit import Freeze
from repairkit.attacks import generate as attacks
from repairkit.attacks.generate import AdversarialSet, attack, draw_targets
from repairkit.attacks.methods import APGDT, DIFGSM, FGSM, MIFGSM, PGD, Square, method_of
from repairkit.attacks.robustness import EPS_GRID, Robustness, Sanity, Sweep, attack_again, replay, sanity, sweep, worst
from repairkit.data.images import LabelledImages
from repairkit.errors import DataError, ModelError, UsageError
from repairkit.models import zoo
from repairkit.network.classifier import Classifier
from repairkit.network.filters import FilterId
from repairkit.objectives import AttackSuccess
from repairkit.run.context import Run
from repairkit.run.options import Options
from repairkit.run.store import RunStore

CLASSES = ("ant", "bee", "cat", "dog", "eel")
QUICK = PGD(steps=4, step=4 / 255)


@pytest.fixture(autouse=True)
def fresh_cache(tmp_path, monkeypatch):
    """What one test makes is not served to another."""
    monkeypatch.setenv("REPAIRKIT_CACHE", str(tmp_path / "cache"))


def classifier(seed: int = 0, classes: tuple[str, ...] = CLASSES) -> Classifier:
    network = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, len(classes))
    )
    return Classifier(randomised(network, seed), classes=classes).eval()


def images_for(victim: Classifier, count: int = 6, size: int = 10, seed: int = 0) -> LabelledImages:
    """Random images, with black and white pixels among them, labelled by what the classifier says."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (count, size, size, 3), dtype=np.uint8)
    pixels[:, 0], pixels[:, 1] = 0, 255
    sources = tuple(f"{number}.png" for number in range(count))
    origins = np.array([f"{number:016x}" for number in range(count)])
    groups = np.array(["a", "b"] * count)[:count]
    images = LabelledImages(pixels, np.zeros(count, np.int64), groups, victim.classes, "tiny", sources=sources, origins=origins)
    with torch.no_grad():
        return replace(images, labels=victim(images.batch(np.arange(count))).argmax(dim=1).numpy())


def setting(count: int = 6) -> tuple[Classifier, LabelledImages, np.ndarray]:
    victim = classifier()
    images = images_for(victim, count)
    return victim, images, draw_targets(images.labels, len(CLASSES), seed=1)


# ---- targets ----


def test_targets_are_uniform_over_the_other_classes_and_drawn_once():
    labels = np.repeat(np.arange(4), 3000)
    targets = draw_targets(labels, 4, seed=5)
    assert targets.dtype == np.int64
    counts = np.zeros((4, 4))
    np.add.at(counts, (labels, targets), 1)
    assert not np.diag(counts).any()
    assert np.abs(counts[~np.eye(4, dtype=bool)] - 1000).max() < 150  # six standard deviations
    np.testing.assert_array_equal(targets, draw_targets(labels, 4, seed=5))
    assert (targets != draw_targets(labels, 4, seed=6)).any()


def test_targets_need_two_classes_and_labels_among_them():
    with pytest.raises(UsageError, match="at least two classes to draw targets from, got 1"):
        draw_targets(np.array([0]), 1, seed=0)
    with pytest.raises(DataError, match=r"expected labels in 0 .. 2, got 0 to 3"):
        draw_targets(np.array([0, 3]), 3, seed=0)


# ---- methods ----


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PGD(eps=0), r"PGD: expected eps in \(0, 1\], .* got 0; 16 of 255 levels is 16/255"),
        (lambda: FGSM(eps=16), r"FGSM: expected eps in \(0, 1\], .* got 16"),
        (lambda: Square(eps=-0.1), r"Square: expected eps"),
        (lambda: APGDT(eps=float("nan")), r"APGD-T: expected eps"),
        (lambda: PGD(step=0), "PGD: expected step above 0, got 0"),
        (lambda: PGD(step=float("inf")), "PGD: expected step above 0, got inf"),
        (lambda: PGD(steps=0), "PGD: expected steps of at least 1, a whole number, got 0"),
        (lambda: MIFGSM(steps=2.5), "MI-FGSM: expected steps of at least 1, a whole number, got 2.5"),
        (lambda: MIFGSM(decay=-1), "MI-FGSM: expected a decay of 0 or more, got -1"),
        (lambda: DIFGSM(diversity=1.5), r"DI-FGSM: expected a diversity in \[0, 1\]"),
        (lambda: Square(queries=0), "Square: expected queries of at least 1"),
        (lambda: APGDT(classes=0), "APGD-T: expected classes of at least 1"),
    ],
)
def test_parameters_are_checked_when_they_are_given(make, message):
    with pytest.raises(UsageError, match=message):
        make()


def test_the_papers_attack_is_the_default():
    assert (PGD().eps, PGD().step, PGD().steps, PGD().random_start) == (16 / 255, 0.8 / 255, 30, True)


@pytest.mark.parametrize("method", [PGD(eps=0.1), FGSM(), MIFGSM(decay=0.5), DIFGSM(diversity=1.0), Square(aimed=False), APGDT(classes=2)])
def test_a_method_is_read_back_from_its_record(method):
    assert method_of(method.record()) == method
    for spoilt in ({"method": "CW"}, {"eps": 0.0}, {"extra": 1}):
        with pytest.raises(DataError):
            method_of(method.record() | spoilt)


# ---- making ----


@pytest.mark.parametrize("random_start", [True, False])
def test_pgd_is_the_literal_one_from_the_same_random_start(random_start):
    victim, images, targets = setting()
    victim = victim.double()
    clean = images.batch(np.arange(len(images))).double()
    method = PGD(eps=9 / 255, step=2 / 255, steps=7, random_start=random_start)
    made = attacks.perturb(victim, clean, targets, method, seed=11)
    start = clean.clone()
    if random_start:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(11)
            start = (clean + torch.empty_like(clean).uniform_(-method.eps, method.eps)).clamp(0, 1)
    expected = oracles.targeted_pgd(victim, clean, targets.tolist(), start, eps=method.eps, step=method.step, steps=method.steps)
    torch.testing.assert_close(made, expected, rtol=0, atol=1e-12)
    assert (made - clean).abs().max() > 0.9 * method.eps


def test_stored_pixels_are_the_literal_ones_rounded():
    victim, images, targets = setting()
    clean = images.batch(np.arange(len(images)))
    made = attack(victim, images, targets, PGD(eps=6.5 / 255, step=2.5 / 255, steps=5, random_start=False), seed=0)
    floats = oracles.targeted_pgd(victim, clean, targets.tolist(), clean, eps=6.5 / 255, step=2.5 / 255, steps=5)
    expected = (floats * 255).round().permute(0, 2, 3, 1).numpy().astype(int)
    before = images.pixels.astype(int)
    np.testing.assert_array_equal(made.images.pixels, np.clip(np.clip(expected, before - 6, before + 6), 0, 255))


@pytest.mark.parametrize("eps", [1 / 255, 6.5 / 255, 16 / 255])
@pytest.mark.parametrize(
    "method",
    [QUICK, FGSM(), MIFGSM(steps=3, step=8 / 255), DIFGSM(steps=3, step=8 / 255, diversity=1.0), Square(queries=10), APGDT(steps=3)],
    ids=lambda method: method.title,
)
def test_made_images_keep_the_bound_on_the_8_bit_grid(method, eps):
    victim, images, targets = setting()
    made = attack(victim, images, targets, replace(method, eps=eps), batch=4)
    change = np.abs(made.images.pixels.astype(int) - images.pixels.astype(int))
    assert made.images.pixels.dtype == np.uint8
    assert change.max() <= eps * 255 + 1e-9
    if method.title in {"PGD", "FGSM", "MI-FGSM", "DI-FGSM"}:
        assert change.max() == int(eps * 255)  # and uses it


def test_made_images_keep_labels_targets_and_where_they_came_from():
    victim, images, targets = setting(12)
    made = attack(victim, images, targets, PGD(eps=40 / 255, step=4 / 255, steps=20), batch=5)
    np.testing.assert_array_equal(made.targets, targets)
    assert (made.targets != made.images.labels).all()
    np.testing.assert_array_equal(made.images.labels, images.labels)
    np.testing.assert_array_equal(made.images.origins, images.origins)
    assert made.images.sources == images.sources
    assert made.images.name == "tiny under PGD"
    assert (made.images.hashes != images.hashes).all()
    with torch.no_grad():
        said = victim(torch.from_numpy(made.images.pixels.astype(np.float32) / 255).permute(0, 3, 1, 2)).argmax(dim=1).numpy()
    np.testing.assert_array_equal(made.hit, said == targets)
    assert made.hit.any()
    toward = made.toward_targets
    np.testing.assert_array_equal(toward.labels, targets)
    score = AttackSuccess().score(victim(toward.batch(np.arange(12))), torch.from_numpy(toward.labels))
    assert float(AttackSuccess().weights(toward) @ score.numpy()) == pytest.approx(made.hit.mean())
    part = made.subset([7, 2])
    np.testing.assert_array_equal(part.targets, targets[[7, 2]])
    np.testing.assert_array_equal(part.images.pixels, made.images.pixels[[7, 2]])
    np.testing.assert_array_equal(part.hit, made.hit[[7, 2]])


def test_a_seed_fixes_every_bit(tmp_path):
    victim, images, targets = setting()
    made = [attack(victim, images, targets, QUICK, seed=seed) for seed in (3, 3, 4)]
    np.testing.assert_array_equal(made[0].images.pixels, made[1].images.pixels)
    assert (made[0].images.pixels != made[2].images.pixels).any()


def test_the_stand_in_network_is_fooled_within_the_bound():
    faces = tiny_faces.target(per_group=1)
    model = zoo.load(tiny_faces.STAND_IN)
    targets = draw_targets(faces.labels, 2, seed=0)
    made = attack(model.classifier, faces, targets, PGD(steps=8, step=4 / 255), batch=4)
    before, after = replay(model.classifier, replace(made, images=replace(faces, hashes=faces.hashes))), replay(model.classifier, made)
    assert after.hit.sum() > before.hit.sum()
    assert after.hit.sum() == len(faces)
    np.testing.assert_array_equal(after.hit, made.hit)
    np.testing.assert_array_equal(after.recovered, ~after.hit)  # two classes
    assert np.abs(made.images.pixels.astype(int) - faces.pixels).max() <= 16


# ---- everything as it was ----


def at_work(victim, images, targets, progress):
    return {
        "attack": lambda: attack(victim, images, targets, QUICK, progress=progress),
        "square": lambda: attack_again(victim, images, targets, Square(queries=5), progress=progress),
        "apgdt": lambda: attack_again(victim, images, targets, APGDT(steps=2), progress=progress),
        "sweep": lambda: sweep(victim, images, targets, QUICK, eps=(0.01, 0.1), progress=progress),
        "sanity": lambda: sanity(victim, images, targets, QUICK, progress=progress),
        "replay": lambda: replay(victim, AdversarialSet(images, targets, np.zeros(len(images), bool), QUICK, 0), progress=progress),
    }


@pytest.mark.parametrize("interrupted", [False, True])
@pytest.mark.parametrize("work", ["attack", "square", "apgdt", "sweep", "sanity", "replay"])
def test_network_and_random_numbers_are_given_back_as_they_were(work, interrupted):
    _, images, targets = setting()
    network = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.Dropout(0.5), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(24, 5))
    victim = Classifier(network, classes=CLASSES)
    victim.train()
    network[1].eval()
    network[0].weight.requires_grad_(False)
    modes = {name: module.training for name, module in victim.named_modules()}
    gradients = {name: parameter.requires_grad for name, parameter in victim.named_parameters()}
    state, generator, numbers = copy.deepcopy(victim.state_dict()), torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    told = []

    def progress(what, made, planned):
        told.append((made, planned))
        if interrupted:
            raise KeyboardInterrupt

    if interrupted:
        with pytest.raises(KeyboardInterrupt):
            at_work(victim, images, targets, progress)[work]()
    else:
        with torch.no_grad():  # whatever mode the caller is in
            at_work(victim, images, targets, progress)[work]()
        assert [made for made, _ in told] == sorted(made for made, _ in told)
        assert all(made <= planned for made, planned in told)
    assert told
    assert {name: module.training for name, module in victim.named_modules()} == modes
    assert {name: parameter.requires_grad for name, parameter in victim.named_parameters()} == gradients
    assert all(parameter.grad is None for parameter in victim.parameters())
    assert not victim._forward_hooks
    assert torch.is_grad_enabled()
    torch.testing.assert_close(victim.state_dict(), state, rtol=0, atol=0)  # batch-norm statistics too
    assert torch.equal(torch.get_rng_state(), generator)
    np.testing.assert_array_equal(np.random.get_state()[1], numbers)  # noqa: NPY002


# ---- the store and the file ----


def other_weights(victim, images, targets):
    victim.network[0].bias.data[0] += 0.5
    return victim, images, targets


CHANGES = {
    "eps": lambda victim, images, targets: ((victim, images, targets), replace(QUICK, eps=8 / 255), 0),
    "steps": lambda victim, images, targets: ((victim, images, targets), replace(QUICK, steps=5), 0),
    "method": lambda victim, images, targets: ((victim, images, targets), FGSM(), 0),
    "seed": lambda victim, images, targets: ((victim, images, targets), QUICK, 1),
    "weights": lambda victim, images, targets: (other_weights(victim, images, targets), QUICK, 0),
    "normalisation": lambda victim, images, targets: (
        (Classifier(victim.network, classes=CLASSES, mean=(0.5, 0.5, 0.5)), images, targets),
        QUICK,
        0,
    ),
    "size": lambda victim, images, targets: ((Classifier(victim.network, classes=CLASSES, size=12), images, targets), QUICK, 0),
    "images": lambda victim, images, targets: ((victim, images_for(victim, seed=9), targets), QUICK, 0),
    "targets": lambda victim, images, targets: ((victim, images, (targets + 1 + ((targets + 1) % 5 == images.labels)) % 5), QUICK, 0),
}


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_decides_the_images_is_in_their_key(change):
    victim, images, targets = setting()
    first = attack(victim, images, targets, QUICK)
    (victim, images, targets), method, seed = CHANGES[change](victim, images, targets)
    if change == "images":
        targets = draw_targets(images.labels, 5, seed=1)
    assert attack(victim, images, targets, method, seed=seed).key != first.key


EACH = QUICK.passes + 1


def in_a_run(folder, victim, images, targets, progress=None):
    """The images and what making them is booked as."""
    run = Run.start(Options(), store=RunStore(folder / "run", {}, command="again"), progress=progress)
    with run.phase("attack"):
        return attack(victim, images, targets, QUICK, batch=4, run=run), run.ledger.passes


@pytest.mark.parametrize("done", [0, 1, 2])
def test_an_attack_that_was_cut_off_goes_on_to_the_same_bits(done, tmp_path, monkeypatch):
    victim, images, targets = setting(10)
    whole = attack(victim, images, targets, QUICK, batch=4)

    def progress(_what, made, _planned):
        if made > done * 4 * EACH:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        in_a_run(tmp_path, victim, images, targets, progress)
    made = []
    real = attacks.perturb
    monkeypatch.setattr(attacks, "perturb", lambda *given, **more: made.append(len(given[1])) or real(*given, **more))
    resumed, passes = in_a_run(tmp_path, victim, images, targets)
    np.testing.assert_array_equal(resumed.images.pixels, whole.images.pixels)
    np.testing.assert_array_equal(resumed.hit, whole.hit)
    assert resumed.key == whole.key
    assert sum(made) == 10 - 4 * done
    assert passes == {"attack": 10 * EACH}


def test_a_frozen_network_is_not_taken_for_the_one_whose_weights_it_has(tmp_path):
    victim, images, targets = setting()
    plain, _ = in_a_run(tmp_path, victim, images, targets)
    stored = sorted(tmp_path.rglob("*"))
    with Freeze(victim.network, {FilterId("0", channel): 0.3 for channel in range(6)}):
        frozen, passes = in_a_run(tmp_path, victim, images, targets)
        np.testing.assert_array_equal(frozen.images.pixels, attack(victim, images, targets, QUICK, batch=4).images.pixels)
    assert not np.array_equal(frozen.images.pixels, plain.images.pixels)
    assert passes == {"attack": len(images) * EACH}
    assert sorted(tmp_path.rglob("*")) == stored


def test_a_file_holds_all_of_it(tmp_path):
    victim, images, targets = setting()
    made = attack(victim, images, targets, MIFGSM(steps=2), seed=8)
    made.write(tmp_path / "run" / "adversarial.npz")
    read = AdversarialSet.read(tmp_path / "run" / "adversarial.npz")
    for name in ("pixels", "labels", "groups", "hashes", "origins"):
        np.testing.assert_array_equal(getattr(read.images, name), getattr(made.images, name))
    for name in ("targets", "hit"):
        np.testing.assert_array_equal(getattr(read, name), getattr(made, name))
    assert (read.images.sources, read.images.classes, read.images.name) == (made.images.sources, CLASSES, "tiny under MI-FGSM")
    assert (read.method, read.seed, read.key) == (MIFGSM(steps=2), 8, made.key)


@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04 no zip file"])
def test_what_is_no_such_file_is_an_error(content, tmp_path):
    if content is not None:
        (tmp_path / "adversarial.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"expected adversarial images at .*adversarial.npz, .* remove it to make them anew"):
        AdversarialSet.read(tmp_path / "adversarial.npz")


# ---- bad input ----


def test_a_network_with_a_softmax_is_told_to_remove_it():
    victim, images, targets = setting()
    softmaxed = Classifier(nn.Sequential(victim.network, nn.Softmax(dim=1)), classes=CLASSES)
    for use in (
        lambda: attack(softmaxed, images, targets, QUICK),
        lambda: attack_again(softmaxed, images, targets, Square()),
        lambda: sweep(softmaxed, images, targets, QUICK),
        lambda: sanity(softmaxed, images, targets, QUICK),
        lambda: replay(softmaxed, AdversarialSet(images, targets, np.zeros(6, bool), QUICK, 0)),
    ):
        with pytest.raises(ModelError, match="which are probabilities; remove the softmax at the end of the network"):
            use()


def test_images_outside_the_unit_range_are_refused():
    victim, images, targets = setting()
    for wrong, ends in ((images.batch(np.arange(6)) * 255, "0 to 255"), (images.batch(np.arange(6)) - 0.5, "-0.5 to 0.5")):
        with pytest.raises(DataError, match=rf"expected images in \[0, 1\], got values from {ends}; divide 8-bit pixels by 255"):
            attacks.perturb(victim, wrong, targets, QUICK, seed=0)


def test_what_does_not_fit_is_named():
    victim, images, targets = setting()
    with pytest.raises(DataError, match=r"the target \d of 0.png is its label or outside the 5 classes"):
        attack(victim, images, images.labels, QUICK)
    with pytest.raises(DataError, match="expected a target, int64, for each of the 6 images of tiny"):
        attack(victim, images, targets[:3], QUICK)
    with pytest.raises(UsageError, match="8 bits, which hold no change below 1/255"):
        attack(victim, images, targets, PGD(eps=0.5 / 255))
    with pytest.raises(UsageError, match="expected a batch of at least 1 image, got 0"):
        attack(victim, images, targets, QUICK, batch=0)
    few = classifier(classes=("a", "b", "c"))
    few_images = images_for(few)
    with pytest.raises(ModelError, match="the network gives 3 logits, tiny has 5 classes"):
        attack(few, images, targets, QUICK)
    with pytest.raises(UsageError, match=r"APGD-T with 1 class\(es\) to aim at needs a network of at least 4, got 3; .* leave it out"):
        attack_again(few, few_images, draw_targets(few_images.labels, 3, seed=0), APGDT())
    with pytest.raises(UsageError, match="at least one restart, got 0"):
        attack_again(victim, images, targets, QUICK, restarts=0)
    with pytest.raises(UsageError, match="expected rising bounds eps"):
        sweep(victim, images, targets, QUICK, eps=(0.1, 0.1))
    with pytest.raises(UsageError, match="expected outcomes of the same images"):
        worst([])
    victim.network[6].weight.data[0] = float("nan")
    with pytest.raises(ModelError, match="logits are NaN or infinite"):
        attack(victim, images, targets, QUICK)


# ---- judging ----


def literal_outcome(victim, made, targets, labels):
    with torch.no_grad():
        said = [int(victim(image[None]).argmax()) for image in made]
    return [s == t for s, t in zip(said, targets, strict=True)], [s == y for s, y in zip(said, labels, strict=True)]


@pytest.mark.parametrize("method", [FGSM(), MIFGSM(steps=4, step=4 / 255), DIFGSM(steps=4, step=4 / 255)], ids=lambda method: method.title)
def test_images_carried_over_are_judged_by_the_other_network(method):
    other, judged = classifier(seed=3), classifier()
    images = images_for(judged, 12)
    targets = draw_targets(images.labels, 5, seed=1)
    made = attack(other, images, targets, method)
    outcome = replay(judged, made, batch=5)
    floats = torch.from_numpy(made.images.pixels.astype(np.float32) / 255).permute(0, 3, 1, 2)
    hit, recovered = literal_outcome(judged, floats, targets, images.labels)
    assert (outcome.hit.tolist(), outcome.recovered.tolist()) == (hit, recovered)
    assert outcome.passes == 12
    assert 0 < outcome.recovered.sum() < 12


@pytest.mark.parametrize(
    "method",
    [PGD(eps=30 / 255, steps=6, step=8 / 255), Square(eps=0.15, queries=60), Square(eps=0.15, queries=60, aimed=False), APGDT(steps=8)],
    ids=lambda method: f"{method.title} {method.targeted}",
)
def test_an_attack_afresh_is_judged_image_by_image(method, monkeypatch):
    victim, images, targets = setting(10)
    made = []

    def keeping(*args, **kwargs):
        made.append(perturb(*args, **kwargs))
        return made[-1]

    perturb = attacks.perturb
    monkeypatch.setattr("repairkit.attacks.robustness.perturb", keeping)
    outcome = attack_again(victim, images, targets, method, batch=4)
    hit, recovered = literal_outcome(victim, torch.cat(made), targets, images.labels)
    assert (outcome.hit.tolist(), outcome.recovered.tolist()) == (hit, recovered)
    change = (torch.cat(made) - images.batch(np.arange(10))).abs().max()
    assert 0 < change <= method.eps + 1e-6
    success = outcome.hit if method.targeted else ~outcome.recovered
    assert success.any()
    assert 0 < outcome.passes <= 10 * (method.passes + 1)


def test_restarts_only_add_success_and_only_attack_what_is_left():
    victim, images, targets = setting(20)
    method = PGD(eps=10 / 255, step=5 / 255, steps=3)
    once, thrice = (attack_again(victim, images, targets, method, restarts=restarts, batch=7) for restarts in (1, 3))
    assert 0 < once.hit.sum() < 20
    assert not (once.hit & ~thrice.hit).any()
    assert not (thrice.recovered & ~once.recovered).any()
    each = method.passes + 1
    assert once.passes == 20 * each
    left = 20 - int(once.hit.sum())
    assert (20 + left) * each <= thrice.passes <= (20 + 2 * left) * each


def test_a_label_lost_in_one_restart_is_lost(monkeypatch):
    """One image: another class in the first restart, the label in the second, the target in the third; then nothing is left to attack."""
    victim, images, targets = setting(1)
    label, target = int(images.labels[0]), int(targets[0])
    other = ({0, 1, 2} - {label, target}).pop()
    said = iter([other, label, target])
    monkeypatch.setattr("repairkit.attacks.robustness.predict_pixels", lambda *_args, **_kwargs: np.array([next(said)]))
    twice = attack_again(victim, images, targets, QUICK, restarts=2)
    assert (twice.hit.tolist(), twice.recovered.tolist()) == ([False], [False])
    assert attack_again(victim, images, targets, QUICK, restarts=5).hit.tolist() == [True]


def linear(size: int = 4) -> tuple[Classifier, LabelledImages, np.ndarray]:
    """Two classes whose margin is linear in the pixels: the least eps is the margin over the sum of |slope|."""
    rng = np.random.default_rng(0)
    slopes = rng.normal(size=3 * size * size)
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * size * size, 2))
    pixels = rng.integers(100, 150, (15, size, size, 3), dtype=np.uint8)
    x = pixels.transpose(0, 3, 1, 2).reshape(15, -1) / 255
    margins = x @ slopes
    margins -= np.median(margins) + 1e-3
    with torch.no_grad():
        network[1].weight.copy_(torch.tensor(np.stack([0 * slopes, slopes])))
        network[1].bias.copy_(torch.tensor([0.0, -np.median(x @ slopes) - 1e-3]))
    labels = (margins > 0).astype(np.int64)
    images = LabelledImages(pixels, labels, np.array(["a"] * 15), ("no", "yes"), "linear")
    victim = Classifier(network, classes=("no", "yes"), mean=(0, 0, 0), std=(1, 1, 1)).eval()
    return victim, images, np.abs(margins) / np.abs(slopes).sum()


@pytest.mark.parametrize("random_start", [True, False])
def test_the_sweep_finds_the_least_eps_of_a_linear_network(random_start):
    victim, images, exact = linear()
    found = sweep(victim, images, 1 - images.labels, PGD(random_start=random_start, steps=10, step=4 / 255), batch=4)
    expected = [min((eps for eps in EPS_GRID if eps >= least), default=np.inf) for least in exact]
    assert found.least.tolist() == expected
    assert len(set(expected)) > 3
    assert found.median == sorted(expected)[7]
    assert (np.diff(found.hit.astype(int), axis=0) >= 0).all()
    assert found.passes < len(EPS_GRID) * 15 * 31


def test_a_sweep_takes_what_is_known_of_its_own_bound_and_attacks_no_more_there():
    victim, images, _ = linear()
    method, targets = PGD(steps=2, step=4 / 255), 1 - images.labels
    below = sweep(victim, images, targets, method, eps=(1 / 255,))
    assert not below.hit.all()
    for hit in (np.zeros(15, bool), np.arange(15) % 2 == 0):
        found = sweep(victim, images, targets, method, eps=(1 / 255, 16 / 255), known=Robustness(hit, ~hit, 99.0))
        np.testing.assert_array_equal(found.hit, [below.hit[0], below.hit[0] | hit])
        assert found.passes == below.passes
    with pytest.raises(UsageError, match="known result of 15 images, got one of 3"):
        sweep(victim, images, targets, method, known=Robustness(hit[:3], hit[:3], 0.0))


def test_the_median_eps_counts_images_that_never_give_in():
    hit = np.array([[True, False, False, False], [True, True, False, False]])
    assert Sweep((0.1, 0.2), hit, 0).median == 0.2
    assert Sweep((0.1, 0.2), hit[:, 1:], 0).median == np.inf


# ---- sanity ----


class Rounded(nn.Module):
    """Gradient masking: the input is rounded, which has no gradient, and no small change is seen."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.network(torch.round(x * 4) / 4)


def masked() -> tuple[Classifier, LabelledImages, np.ndarray]:
    victim = classifier()
    victim = Classifier(Rounded(victim.network), classes=CLASSES, mean=(0, 0, 0), std=(1, 1, 1)).eval()
    images = images_for(victim, 8)
    images = replace(images, pixels=(np.round(images.pixels / 255 * 4) * 63.75).astype(np.uint8), hashes=np.empty(0, dtype=np.str_))
    return victim, images, draw_targets(images.labels, 5, seed=1)


def test_sanity_has_nothing_to_say_about_an_honest_network():
    victim, images, targets = setting(16)
    found = sanity(victim, images, targets, PGD(eps=32 / 255, step=2 / 255, steps=20))
    assert found.flags == ()
    assert found.by_eps.shape == (3, 16)
    assert found.steps == (1, 5, 20)
    np.testing.assert_array_equal(found.by_steps[-1], found.by_eps[-1])
    assert found.by_eps[-1].sum() > found.by_eps[0].sum()
    assert found.unbounded.all()


def test_sanity_fires_on_a_network_that_hides_its_gradient():
    victim, images, targets = masked()
    found = sanity(victim, images, targets, PGD(eps=8 / 255, step=2 / 255, steps=8))
    assert found.no_gradient.all()
    assert found.flags == (
        "success does not rise with eps: of 8 images 0 at 0.5/255, 0 at 2/255, 0 at 8/255, 0 without bound",
        "an attack without bound gets 0 of 8 images, and should get all",
        "the gradient vanishes at 8 of 8 images",
    )


def test_a_network_that_withstands_the_bound_but_not_an_unbounded_attack_raises_no_flag():
    none, every = np.zeros((3, 8), bool), np.ones(8, bool)
    assert Sanity((0.1, 0.2, 0.3), none, (1, 2, 8), none, every, np.zeros(8, bool), 0).flags == ()


@pytest.mark.parametrize(("counts", "suspicious"), [((0, 10, 30), False), ((40, 39, 40), False), ((0, 0, 0), False), ((5, 30, 20), True)])
def test_chance_may_cost_an_image_or_a_twentieth(counts, suspicious):
    rows = np.stack([np.arange(40) < count for count in counts])
    everything = np.ones(40, bool)
    fine = np.stack([~everything, everything, everything])
    found = Sanity((1 / 255, 4 / 255, 16 / 255), rows, (1, 7, 30), fine, everything, ~everything, passes=0)
    assert bool(found.flags) == suspicious


def test_an_image_without_gradient_stays_as_it_is():
    victim, images, targets = masked()
    made = attack(victim, images, targets, MIFGSM(steps=2))
    np.testing.assert_array_equal(made.images.pixels, images.pixels)
    assert not made.hit.any()


def test_the_worst_of_several_attacks_is_taken_image_by_image():
    victim, images, targets = setting(10)
    outcomes = [attack_again(victim, images, targets, method) for method in (QUICK, APGDT(steps=4), Square(queries=20))]
    together = worst(outcomes)
    for number in range(10):
        assert together.hit[number] == any(outcome.hit[number] for outcome in outcomes)
        assert together.recovered[number] == all(outcome.recovered[number] for outcome in outcomes)
    assert together.passes == sum(outcome.passes for outcome in outcomes)
