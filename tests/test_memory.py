import subprocess
import sys

import pytest
import torch
from networks import IMAGE, conv_relu
from torch import nn

from repairkit.run.memory import PER_OUTPUT, available, images_that_fit, output_bytes

SHAPE = (3, IMAGE, IMAGE)
# Outputs of conv1, relu1 (4 x 6 x 6), conv2, relu2 (6 x 4 x 4) and the linear classifier (2), in float32.
PER_IMAGE = 4 * (2 * 4 * 36 + 2 * 6 * 16 + 2)


def test_the_outputs_of_all_modules_count_once():
    assert output_bytes(conv_relu(), torch.zeros(1, *SHAPE)) == PER_IMAGE
    assert output_bytes(conv_relu(), torch.zeros(3, *SHAPE)) == 3 * PER_IMAGE


@pytest.mark.parametrize(("budget", "expected"), [(0, 1), (5.9 * PER_OUTPUT * PER_IMAGE, 5), (float("inf"), 2**31)])
def test_as_many_images_as_the_budget_holds(budget, expected):
    assert images_that_fit(conv_relu(), torch.zeros(2, *SHAPE), budget=budget) == expected


def test_no_hook_is_left_behind_by_a_network_that_fails():
    network = nn.Sequential(nn.Conv2d(3, 2, 1), nn.Linear(1000, 2))
    with pytest.raises(RuntimeError):
        output_bytes(network, torch.zeros(1, *SHAPE))
    assert not any(module._forward_hooks for module in network.modules())


def test_what_can_be_had_is_read_from_the_system(tmp_path):
    (tmp_path / "meminfo").write_text("MemTotal:       1000 kB\nMemAvailable:    600 kB\n")
    assert available(meminfo=tmp_path / "meminfo") == 600 * 1024
    assert available(meminfo=tmp_path / "none") == float("inf")


PEAK = """
import numpy as np, torch
from torchvision.models import squeezenet1_0
from repairkit import ConvFilters
from repairkit.run.memory import PER_OUTPUT, output_bytes

torch.set_num_threads(1)
network, images = squeezenet1_0().eval(), torch.rand(48, 3, 96, 96)
filters = ConvFilters(network)
filters.calibrate([images[:1]])
live = np.random.default_rng(0).random((len(images), len(filters))) < 0.9
# of this program alone: what getrusage says begins with the peak of the process that started it
peak = lambda: 1024 * int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
filters.gradients(images[:1], live[:1], lambda logits: logits[:, 0])
before = peak()
filters.gradients(images, live, lambda logits: logits[:, 0])
_, snapshot = filters.snapshot(images, live)
filters.forward_from(snapshot, 0, live, np.arange(len(images)))
print((peak() - before) / (PER_OUTPUT * len(images) * output_bytes(network, images[:1])))
"""


@pytest.mark.extended
def test_a_real_network_stays_within_what_was_reckoned():
    done = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True, check=True)
    assert 0.2 < float(done.stdout) < 1
