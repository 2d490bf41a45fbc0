from __future__ import annotations

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """No test reads or writes the user's cache, nor torch's."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path_factory.getbasetemp() / "torch"))
    monkeypatch.setenv("REPAIRKIT_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(scope="session")
def faces(tmp_path_factory):
    """Two manifests of drawn faces, not to be changed."""
    import tiny_faces

    folder = tmp_path_factory.mktemp("faces")
    for name, images in (("target", tiny_faces.target()), ("source", tiny_faces.source())):
        tiny_faces.write_manifest(folder, images, name)
    return folder


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """Drawn faces in a folder for each class, one of them grey; not to be changed."""
    import tiny_faces
    from PIL import Image

    folder = tmp_path_factory.mktemp("folders")
    images = tiny_faces.target()
    for number, (pixels, label) in enumerate(zip(images.pixels, images.labels, strict=True)):
        place = folder / images.classes[label]
        place.mkdir(exist_ok=True)
        Image.fromarray(pixels).convert("L" if number == 0 else "RGB").save(place / f"{number}.png")
    return folder


@pytest.fixture(scope="session")
def finished(faces, tmp_path_factory):
    """A run that was made once: exit code, stdout, stderr, directory."""
    from command_line import fairness

    out = tmp_path_factory.mktemp("finished") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REPAIRKIT_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        return *fairness(faces, "--json", "--out", out), out


@pytest.fixture
def own_faces(faces, tmp_path):
    """The same manifests, to be spoilt."""
    folder = tmp_path / "own"
    folder.mkdir()
    for file in ("target.csv", "source.csv"):
        text = (faces / file).read_text()
        (folder / file).write_text(text.replace("target/", f"{faces}/target/").replace("source/", f"{faces}/source/"))
    return folder
