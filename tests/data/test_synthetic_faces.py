import numpy as np
import pytest

from repairkit.data.synthetic_faces import GROUPS, SIZE, LabelledImages, source_faces, target_faces, training_faces

MAKERS = {
    "training": lambda n, seed=0: training_faces(n=n, seed=seed),
    "source": lambda n, seed=0: source_faces(n=n, seed=seed),
    "target": lambda n, seed=0: target_faces(per_group=n // 4, seed=seed),
}


@pytest.fixture(scope="module")
def target() -> LabelledImages:
    return target_faces(per_group=40, seed=3)


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_a_face_depends_on_seed_and_index_alone(make):
    few, many, other = make(8), make(16), make(8, seed=1)
    np.testing.assert_array_equal(few.pixels, many.pixels[:8])
    assert few.groups.tolist() == many.groups[:8].tolist()
    assert not set(few.hashes.tolist()) & set(other.hashes.tolist())


def test_the_three_sets_share_no_face():
    hashes = [set(make(40).hashes.tolist()) for make in MAKERS.values()]
    assert len(set.union(*hashes)) == 120


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_labels_follow_groups(make):
    faces = make(24)
    assert faces.drawn
    assert faces.pixels.shape == (24, SIZE, SIZE, 3)
    assert set(faces.groups.tolist()) <= set(GROUPS)
    for label, group in zip(faces.labels, faces.groups, strict=True):
        assert faces.classes[label] == {"men": "male", "women": "female"}[group.split()[1]]


def test_training_is_skewed_like_celeba():
    groups = training_faces(n=400).groups.tolist()
    lighter = sum(group.startswith("lighter") for group in groups) / 400
    assert lighter > 0.9
    assert groups.count("darker women") < groups.count("darker men")


def test_tone_separates_lighter_from_darker_and_cues_overlap(target):
    """Skin between the eyes and the mouth is darker for the darker groups; the hair beside the neck parts the sexes only partly."""
    cheeks = target.pixels[:, 50:58, 40:56].mean(axis=(1, 2, 3))
    darker = np.char.startswith(target.groups, "darker")
    assert np.median(cheeks[darker]) < np.median(cheeks[~darker]) - 50
    women = target.labels == 0
    below_ears = target.pixels[:, 58:68, 20:76].astype(float).std(axis=(1, 2, 3))
    low, high = np.quantile(below_ears[women], [0.05, 0.95])
    assert ((below_ears[~women] > low) & (below_ears[~women] < high)).mean() > 0.5


def test_faces_look_different_from_each_other(target):
    flat = target.pixels[:, ::8, ::8].reshape(len(target), -1).astype(float)
    distance = np.abs(flat[:, None] - flat[None]).mean(axis=2)
    assert distance[~np.eye(len(flat), dtype=bool)].min() > 5
