"""The last layer refitted: scikit-learn's optimum where it has one, and the network's own layer in any case."""

import numpy as np
import pytest
import torch
from networks import ConvolutionalClassifier, SharedWithClassifier, Untraceable, randomised
from sklearn.linear_model import LogisticRegression
from torch import nn

from repairkit.alternatives.last_layer import refit
from repairkit.data.images import LabelledImages
from repairkit.errors import DataError, ModelError
from repairkit.network.classifier import Classifier
from repairkit.network.head import Head


def blobs(n=300, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    units = np.array([1.0, 2.0, 3.0, 0.1, 10.0])
    features = rng.normal(size=(n, 5)) * units + 3
    labels = (((features - 3) / units) @ rng.normal(size=(5, classes)) + rng.normal(size=(n, classes))).argmax(1)
    return features, labels, rng.uniform(0.1, 1, n)


def empty_head(classes: int) -> Head:
    network = nn.Sequential(nn.Flatten(), nn.Linear(5, classes))
    for parameter in network.parameters():
        nn.init.zeros_(parameter)
    return Head(Classifier(network, classes=[str(each) for each in range(classes)]))


@pytest.mark.parametrize("strength", [1.0, 0.1, 0.001])
def test_of_a_layer_of_zeros_it_is_weighted_logistic_regression_on_scaled_features(strength):
    features, labels, weights = blobs()
    layer = refit(empty_head(3), torch.from_numpy(features), labels, weights, strength=strength)
    scaled = features / features.std(axis=0)
    expected = LogisticRegression(C=1 / strength, tol=1e-10, max_iter=10_000).fit(scaled, labels, sample_weight=weights / weights.sum())
    np.testing.assert_allclose(layer.weight.numpy() * features.std(axis=0), expected.coef_, atol=1e-3)
    probabilities = torch.softmax(layer(torch.from_numpy(features)), 1).numpy()
    np.testing.assert_allclose(probabilities, expected.predict_proba(scaled), atol=1e-3)


def test_of_two_classes_scikit_learn_has_one_row_for_both():
    features, labels, weights = blobs(classes=2)
    layer = refit(empty_head(2), torch.from_numpy(features), labels, weights, strength=0.1)
    scaled = features / features.std(axis=0)
    expected = LogisticRegression(C=2 / 0.1, tol=1e-10, max_iter=10_000).fit(scaled, labels, sample_weight=weights / weights.sum())
    np.testing.assert_allclose(
        torch.softmax(layer(torch.from_numpy(features)), 1)[:, 1].numpy(), expected.predict_proba(scaled)[:, 1], atol=1e-3
    )


def images(n=30, size=12):
    rng = np.random.default_rng(0)
    pixels, labels = rng.integers(0, 256, (n, size, size, 3)).astype(np.uint8), rng.integers(0, 2, n)
    return LabelledImages(pixels=pixels, labels=labels, groups=np.full(n, "all"), classes=("no", "yes"), name="noise")


def convolutional() -> Classifier:
    """As in a SqueezeNet: the last layer is a convolution, and a ReLU and a mean over positions follow."""
    layers = nn.Conv2d(3, 6, 3, stride=2), nn.ReLU(), nn.Conv2d(6, 2, 1), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    network = randomised(nn.Sequential(*layers)).requires_grad_(requires_grad=False)
    nn.init.constant_(network[2].bias, 3.0)
    return Classifier(network, classes=("no", "yes")).eval()


def loss(classifier, given, pictures, weights, strength, spread):
    """Letter by letter, through the whole network."""
    logits = classifier(pictures.batch(np.arange(len(pictures)))).double()
    own = torch.log_softmax(logits, 1)[torch.arange(len(pictures)), torch.from_numpy(pictures.labels)]
    moved = (classifier.network[2].weight - given.network[2].weight)[:, :, 0, 0].double()
    return float(-(torch.from_numpy(weights / weights.sum()) * own).sum() + strength / 2 * ((moved * spread) ** 2).sum())


def test_of_a_convolution_with_a_relu_behind_it_no_step_in_any_direction_lowers_the_loss():
    given, pictures = convolutional(), images()
    head, weights = Head(given), np.random.default_rng(1).uniform(0.2, 1, len(pictures))
    features = torch.cat(list(head.features(given, pictures, 7)))
    assert features.shape == (30, 6, 5, 5)
    fitted = head.replace_in(given, refit(head, features, pictures.labels, weights, strength=0.01))
    spread = features.double().transpose(0, 1).flatten(1).std(dim=1, correction=0)
    least = loss(fitted, given, pictures, weights, 0.01, spread)
    assert least < loss(given, given, pictures, weights, 0.01, spread) - 0.05
    generator = torch.Generator().manual_seed(0)
    for parameter in fitted.network[2].parameters():
        for _ in range(10):
            step = 0.02 * torch.randn(parameter.shape, generator=generator)
            parameter.add_(step)
            assert loss(fitted, given, pictures, weights, 0.01, spread) > least - 1e-6
            parameter.sub_(step)


def test_nothing_but_the_last_layer_changes_and_the_network_given_stays_as_it_was():
    given, pictures = convolutional(), images()
    before = {name: value.clone() for name, value in given.state_dict().items()}
    head = Head(given)
    features = torch.cat(list(head.features(given, pictures, 7)))
    layer = refit(head, features, pictures.labels, np.ones(len(pictures)), strength=0.01)
    fitted = head.replace_in(given, layer)
    changed = {name for name, value in fitted.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"network.2.weight", "network.2.bias"}
    assert all(torch.equal(value, before[name]) for name, value in given.state_dict().items())
    assert not any(module._forward_pre_hooks for module in given.modules())
    expected = head.after(layer(features.double()))
    torch.testing.assert_close(fitted(pictures.batch(np.arange(30))).double(), expected, atol=1e-5, rtol=1e-5)
    held = refit(head, features, pictures.labels, np.ones(len(pictures)), strength=1e3)
    torch.testing.assert_close(held.weight.float(), before["network.2.weight"], atol=1e-3, rtol=0)


def test_the_last_layer_is_found_in_a_network_that_classifies_by_a_convolution():
    assert (
        Head(Classifier(randomised(ConvolutionalClassifier()), classes=("no", "yes"))).name
        == [name for name, module in ConvolutionalClassifier().named_modules() if isinstance(module, nn.Conv2d)][-1]
    )


class Skips(nn.Module):
    """The logits are those of the last layer plus something from before it."""

    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 2, 3), nn.Linear(2, 2)

    def forward(self, x):
        x = self.conv(x).mean(dim=(2, 3))
        return self.fc(x) + x


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (Skips, "the logits need more than the last layer, fc .* it cannot be fitted alone"),
        (SharedWithClassifier, "expected the last layer, .*, to run once, it runs 2 times"),
        (Untraceable, "torch.fx cannot trace Untraceable"),
    ],
)
def test_a_last_layer_that_cannot_be_fitted_alone(network, message):
    with pytest.raises(ModelError, match=message):
        Head(Classifier(network(), classes=("no", "yes")))


def test_errors_say_what_came():
    features, labels, weights = blobs()
    with pytest.raises(DataError, match="a label and a weight for each of 300 images, got 299 and 300"):
        refit(empty_head(3), torch.from_numpy(features), labels[1:], weights, strength=1.0)
    with pytest.raises(ModelError, match="the loss of the last layer became nan"):
        refit(empty_head(3), torch.from_numpy(features * np.nan), labels, weights, strength=1.0)
