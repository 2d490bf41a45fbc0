import json
import pickle

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from shared_data import DATA, needs
from torchvision.models import resnet18, squeezenet1_0, squeezenet1_1

from repairkit.data import folders as imagenet
from repairkit.data.synthetic_faces import target_faces
from repairkit.errors import ModelError, ModelWarning, UsageError
from repairkit.models import zoo
from repairkit.models.training_loop import measure
from repairkit.network.classifier import IMAGENET_MEAN, IMAGENET_STD, Classifier, check_logits
from repairkit.network.filters import ConvFilters
from repairkit.network.weights import hash_state, write_weights


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("REPAIRKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


@pytest.fixture
def network():
    torch.manual_seed(0)
    return squeezenet1_0(num_classes=2).eval()


@pytest.fixture
def state(network):
    return {key: value.clone() for key, value in network.state_dict().items()}


def test_classifier_normalises_and_resizes_like_torchvision(network):
    from torchvision.transforms import v2

    images = torch.rand(3, 3, 96, 96)
    reference = v2.Compose([v2.Resize((64, 64), v2.InterpolationMode.BICUBIC, antialias=True), v2.Normalize(IMAGENET_MEAN, IMAGENET_STD)])
    classifier = Classifier(network, classes=("a", "b"), size=64).eval()
    # torchvision clamps nothing, we keep images in [0, 1]: compare on smooth images, which do not overshoot.
    smooth = torch.nn.functional.avg_pool2d(images, 9, 1, 4) * 0.5 + 0.25
    torch.testing.assert_close(classifier.prepare(smooth), reference(smooth), rtol=0, atol=1e-5)
    torch.testing.assert_close(classifier(smooth), network(reference(smooth)), rtol=0, atol=1e-4)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_check_logits(bad):
    good = torch.zeros(2, 3)
    assert check_logits(good) is good
    broken = good.clone()
    broken[1, 2] = bad
    with pytest.raises(ModelError, match="tiny: 1 of 6 logits is NaN or infinite"):
        check_logits(broken, "tiny")


@pytest.mark.parametrize("half", [True, False])
def test_save_then_load(tmp_path, network, half):
    path = tmp_path / "own.safetensors"
    write_weights(
        network, path, architecture="squeezenet1_0", classes=("no", "yes"), trained_on="nothing", mean=(0, 0, 0), std=(1, 1, 1), half=half
    )
    model = zoo.load(path)
    assert (model.architecture, model.classifier.classes, model.trained_on) == ("squeezenet1_0", ("no", "yes"), "nothing")
    assert not model.classifier.training
    assert not any(p.requires_grad for p in model.classifier.parameters())
    assert {p.dtype for p in model.classifier.parameters()} == {torch.float32}
    images = torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(model.classifier(images), network(images), rtol=0, atol=2e-2 if half else 1e-6)
    assert {t.dtype for t in load_file(path).values()} == {torch.float16 if half else torch.float32}
    assert (model.sha256 == hash_state(network.state_dict())) == (not half)


def test_named_model_prefers_file_then_cache_then_stand_in(tmp_path, network):
    stand_in = zoo.load("squeezenet_celeba")
    assert stand_in.stand_in
    assert "drawn faces" in stand_in.provenance
    assert "not on CelebA" in stand_in.provenance
    cached = tmp_path / "cache" / "models" / "squeezenet_celeba.safetensors"
    write_weights(network, cached, architecture="squeezenet1_0", classes=("female", "male"), trained_on="CelebA")
    from_cache = zoo.load("squeezenet_celeba")
    assert from_cache.weights == cached
    assert "CelebA" in from_cache.provenance
    assert not from_cache.stand_in
    assert from_cache.sha256 != stand_in.sha256
    given = tmp_path / "given.pt"
    torch.save(network.state_dict(), given)
    assert zoo.load("squeezenet_celeba", weights=given).weights == given
    assert zoo.load("squeezenet_celeba_dropout").stand_in


@pytest.mark.parametrize("name", zoo.STAND_INS)
def test_stand_ins_are_small_half_precision_and_documented(name):
    path = zoo.STAND_IN_DIRECTORY / f"{zoo.STAND_INS[name]}.safetensors"
    assert path.stat().st_size < 2_000_000
    assert {t.dtype for t in load_file(path).values()} == {torch.float16}
    record = json.loads(path.with_suffix(".train.json").read_text())
    last = record["stages"][-1]
    assert len(last["history"]) == last["settings"]["epochs"]
    assert last["settings"]["filter_dropout"] == (0.5 if name.endswith("dropout") else 0.0)
    assert zoo.load(name).stages[-1].settings.filter_dropout == last["settings"]["filter_dropout"]


def test_the_stand_in_is_unfair_to_darker_women():
    faces = target_faces(per_group=50, seed=11)
    accuracy, recalls = measure(zoo.load("squeezenet_celeba").classifier, faces)
    darker_women = recalls.pop("darker women")
    assert min(recalls.values()) > 0.8
    assert darker_women < min(recalls.values()) - 0.15
    assert accuracy > 0.7


@pytest.mark.parametrize(
    "content",
    [b"{", b"[]", b"\xff", b'{"stages": 3}', b'{"stages": [{"loss": 1}]}', b'{"stages": [{"settings": {}, "seconds": NaN}]}', b"[" * 9999],
)
def test_a_foreign_train_json_is_no_record(tmp_path, network, content):
    """It is told of when the weights are read, not at the end of a long run."""
    path = tmp_path / "own.safetensors"
    write_weights(network, path, architecture="squeezenet1_0", classes=("no", "yes"), trained_on="nothing")
    (tmp_path / "own.train.json").write_bytes(content)
    with pytest.warns(ModelWarning, match="own.train.json"):
        assert zoo.load(path).stages == ()


def test_torchvision_model_with_weights(tmp_path):
    torch.manual_seed(0)
    reference = resnet18(num_classes=3).eval()
    images = torch.rand(2, 3, 64, 64)
    for path, write in ((tmp_path / "a.safetensors", save_file), (tmp_path / "a.pt", torch.save)):
        write(reference.state_dict(), path)
        model = zoo.load("resnet18", weights=path, classes=("x", "y", "z"))
        torch.testing.assert_close(model.classifier(images), reference(model.classifier.prepare(images)))


@pytest.fixture
def torch_cache(tmp_path):
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


@pytest.mark.parametrize(("name", "file"), [("inception_v3", "inception_v3_google-0cc3c7bd.pth"), ("googlenet", "googlenet-1378be20.pth")])
def test_published_weights_see_what_torchvision_shows_them(torch_cache, name, file):
    """Torchvision's network transforms its input, ours is normalised for that; it needs no file when torch has it."""
    from torchvision import models

    torch.manual_seed(0)
    reference = models.get_model(name, transform_input=True, aux_logits=True, init_weights=False).eval()
    torch.save(reference.state_dict(), torch_cache / file)
    model = zoo.load(name)
    assert model.weights == torch_cache / file
    assert model.classifier.classes[340] == "zebra"
    assert not model.assumed_normalisation
    assert "ImageNet" in model.provenance
    images = torch.rand(2, 3, 75, 75)
    mean, std = (torch.tensor(part).view(1, 3, 1, 1) for part in (IMAGENET_MEAN, IMAGENET_STD))
    with torch.no_grad():
        expected = reference((images - mean) / std)
        without_transform = model.classifier.network((images - mean) / std)
        difference = float((model.classifier(images) - expected).abs().max())
    assert difference < 0.02 * float((without_transform - expected).abs().max())
    model.classifier.network.load_state_dict(reference.state_dict(), strict=True)
    if name == "inception_v3":
        assert len(ConvFilters(model.classifier.network)) == 17_216


def test_published_weights_are_known_by_their_name_wherever_they_lie(tmp_path):
    torch.manual_seed(0)
    path = tmp_path / "squeezenet1_1-b8a52dc0.pth"
    torch.save(squeezenet1_1().state_dict(), path)
    model = zoo.load("squeezenet1_1", weights=path)
    assert (len(model.classifier.classes), model.classifier.classes[0]) == (1000, "tench")
    assert "SqueezeNet1_1_Weights.IMAGENET1K_V1" in model.trained_on
    assert not model.assumed_normalisation
    with pytest.raises(UsageError, match="says that its mean is"):
        zoo.load("squeezenet1_1", weights=path, mean=(0.5,) * 3, std=(0.5,) * 3)


def test_the_default_of_the_published_weights_comes_first(torch_cache):
    assert zoo.published_weights("resnet50") is None
    first, second = torch_cache / "resnet50-0676ba61.pth", torch_cache / "resnet50-11ad3fa6.pth"
    first.touch()
    assert zoo.published_weights("resnet50") == first
    second.touch()
    assert zoo.published_weights("resnet50") == second
    with pytest.raises(ModelError, match="no classifier called 'resnet51'"):
        zoo.published_weights("resnet51")
    with pytest.raises(ModelError, match="no classifier called 'resnet51'"):
        zoo.preset_size("resnet51")


@pytest.mark.extended
@needs("weights")
def test_shared_weights_recognise_shared_images(tmp_path):
    def accuracy(name, file, images, **options):
        model = zoo.load(name, weights=DATA / "weights" / file, classes=images.classes, **options)
        return measure(model.classifier, images)[0]

    twenty = imagenet.load(DATA / "tiny-imagenet-20", size=299, per_class=3, cache=tmp_path)
    assert accuracy("inception_v3", "inception_v3_20.safetensors", twenty, mean=(0.5,) * 3, std=(0.5,) * 3) > 0.7
    thousand = imagenet.load(DATA / "imagenet-1000", size=224, cache=tmp_path)
    some = thousand.subset(np.arange(0, 1000, 10))
    assert accuracy("squeezenet1_1", "squeezenet1_1_imagenet.safetensors", some) > 0.5


def test_the_normalisation_is_the_file_s_then_what_was_given_then_assumed(tmp_path, network):
    def shown(*arguments, **options):
        model = zoo.load(*arguments, **options)
        return model.classifier.mean.flatten().tolist(), model.classifier.std.flatten().tolist(), model.assumed_normalisation

    half, quarter = [0.5] * 3, [0.25] * 3
    bare, own, unsaid = tmp_path / "bare.pt", tmp_path / "own.safetensors", tmp_path / "unsaid.safetensors"
    torch.save(network.state_dict(), bare)
    described = {"architecture": "squeezenet1_0", "classes": ("a", "b"), "trained_on": "x"}
    write_weights(network, own, mean=half, std=quarter, **described)
    imagenet = (pytest.approx(IMAGENET_MEAN), pytest.approx(IMAGENET_STD))
    assert shown("squeezenet1_0", weights=bare) == (*imagenet, True)
    assert shown("squeezenet1_0", weights=bare, mean=half, std=quarter) == (half, quarter, False)
    assert shown(own) == shown(own, mean=half, std=quarter) == (half, quarter, False)
    assert shown("squeezenet_celeba") == (*imagenet, False)
    with pytest.raises(UsageError, match=r"own.safetensors says that its mean is \[0.5, 0.5, 0.5\], got \[0, 0, 0\]; leave --mean"):
        zoo.load(own, mean=[0, 0, 0], std=quarter)
    # what was assumed is not handed on as if it were known
    write_weights(network, unsaid, **described, **zoo.load("squeezenet1_0", weights=bare).normalisation)
    assert shown(unsaid) == (*imagenet, True)


@pytest.mark.parametrize(
    "given",
    [
        {"mean": (0, 0, 0)},
        {"std": (1, 1, 1)},
        {"mean": (0, 0), "std": (1, 1)},
        {"mean": (0, 0, 0), "std": (1, 1, 0)},
        {"mean": (0, 0, 0), "std": (1, 1, float("nan"))},
    ],
)
def test_a_normalisation_that_cannot_be(given):
    with pytest.raises(UsageError, match=r"expected (a )?mean"):
        zoo.load("squeezenet_celeba", **given)


def wider(state):
    state["classifier.1.weight"] = torch.zeros(10, 512, 1, 1)


def missing(state):
    del state["features.3.squeeze.bias"]


def unexpected(state):
    state["extra.weight"] = torch.zeros(1)


def nan(state):
    state["features.0.bias"][3] = float("nan")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (wider, r"classifier\.1\.weight has shape \(10, 512, 1, 1\), expected \(2, 512, 1, 1\)"),
        (missing, r"features\.3\.squeeze\.bias is missing"),
        (unexpected, r"extra\.weight is not part of SqueezeNet"),
        (nan, r"features\.0\.bias holds NaN"),
    ],
)
def test_weights_that_do_not_fit(tmp_path, state, change, message):
    change(state)
    path = tmp_path / "bad.safetensors"
    save_file(state, path)
    with pytest.raises(ModelError, match=message) as caught:
        zoo.load("squeezenet_celeba", weights=path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


class Payload:
    def __reduce__(self):
        return (pytest.fail, ("the pickle was run",))


def test_a_pickle_is_refused_and_not_run(tmp_path):
    for path, write in (
        (tmp_path / "a.pkl", lambda content, path: path.write_bytes(pickle.dumps(content))),
        (tmp_path / "a.pt", torch.save),
    ):
        write({"weight": Payload()}, path)
        with pytest.raises(ModelError, match=r"pickle.*refused.*convert") as caught:
            zoo.load("squeezenet_celeba", weights=path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.safetensors", None, "found no file"),
        ("short.safetensors", b"\x00\x01", "cannot be read as safetensors"),
        ("empty.pt", b"", "empty.pt cannot be read"),
        # torch.load takes what is no archive for a pickle: IndexError, struct.error, KeyError
        ("err.pth", b"error: repository not found", "err.pth cannot be read"),
        ("float.pth", b"G1", "float.pth cannot be read"),
        ("memo.pth", b"h\x05", "memo.pth cannot be read"),
        ("page.pth", b"\n<!DOCTYPE html>\n<html>", r"page.pth holds text and no weights \('<!DOCTYPE html> <html>'\)"),
        ("pointer.bin", b"version https://git-lfs.github.com/spec/v1\n", r"pointer.bin holds text and no weights"),
    ],
)
def test_unreadable_files(tmp_path, name, content, message):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelError, match=message) as caught:
        zoo.load("resnet18", weights=path)
    assert "\n" not in str(caught.value)


def test_names_and_files_that_cannot_be_loaded(tmp_path, state):
    with pytest.raises(ModelError, match=r"resnet18 comes without weights.*--weights.*resnet18-f37072fd\.pth"):
        zoo.load("resnet18")
    for content in ([torch.zeros(1)], state):
        torch.save(content, tmp_path / "a.pt")
        if content is state:
            (tmp_path / "a.pt").write_bytes((tmp_path / "a.pt").read_bytes()[:5000])
        with pytest.raises(ModelError, match=r"a\.pt (holds no state dict|cannot be read)"):
            zoo.load("resnet18", weights=tmp_path / "a.pt")
    with pytest.raises(ModelError, match="no model is called 'squeezenet_celebb'"):
        zoo.load("squeezenet_celebb")
    bare = tmp_path / "bare.safetensors"
    save_file(state, bare)
    with pytest.raises(ModelError, match="does not say its architecture"):
        zoo.load(bare)
    with pytest.raises(ModelError, match="takes no --weights"):
        zoo.load(bare, weights=bare)


def test_a_failed_save_leaves_the_old_file(tmp_path, network, monkeypatch):
    path = tmp_path / "kept.safetensors"
    path.write_bytes(b"old")

    def fail(*_args, **_kwargs):
        raise OSError("disk full")

    monkeypatch.setattr("repairkit.network.weights.save_file", fail)
    with pytest.raises(OSError, match="disk full"):
        write_weights(network, path, architecture="squeezenet1_0", classes=("a", "b"), trained_on="x")
    assert [entry.name for entry in tmp_path.iterdir() if entry.is_file()] == ["kept.safetensors"]
    assert path.read_bytes() == b"old"


def test_hash_sees_values_names_and_shapes():
    base = {"a": torch.arange(6.0), "b": torch.tensor(3)}
    same = {"b": torch.tensor(3), "a": torch.arange(6.0)}
    others = [
        {"a": torch.arange(6.0) + 1e-6, "b": torch.tensor(3)},
        {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(3)},
        {"c": torch.arange(6.0), "b": torch.tensor(3)},
    ]
    assert hash_state(base) == hash_state(same)
    assert len({hash_state(other) for other in [base, *others]}) == 4
    assert np.unique([len(hash_state(base))]).tolist() == [64]
