import os
import subprocess
import sys

import joblib
import psutil
import pytest
import torch
from networks import IMAGE, conv_relu
from torch import nn

from repairkit.run.resources import BYTES_PER_OUTPUT_BYTE, free_cores, free_memory, images_that_fit, output_bytes

SHAPE = (3, IMAGE, IMAGE)
# Outputs of conv1, relu1 (4 x 6 x 6), conv2, relu2 (6 x 4 x 4) and the linear classifier (2), in float32.
PER_IMAGE = 4 * (2 * 4 * 36 + 2 * 6 * 16 + 2)


def test_the_outputs_of_all_modules_count_once():
    assert output_bytes(conv_relu(), torch.zeros(1, *SHAPE)) == PER_IMAGE
    assert output_bytes(conv_relu(), torch.zeros(3, *SHAPE)) == 3 * PER_IMAGE


@pytest.mark.parametrize(("budget", "expected"), [(0, 1), (5.9 * BYTES_PER_OUTPUT_BYTE * PER_IMAGE, 5), (float("inf"), 2**31)])
def test_as_many_images_as_the_budget_holds(budget, expected):
    assert images_that_fit(conv_relu(), torch.zeros(2, *SHAPE), budget=budget) == expected


def test_no_hook_is_left_behind_by_a_network_that_fails():
    network = nn.Sequential(nn.Conv2d(3, 2, 1), nn.Linear(1000, 2))
    with pytest.raises(RuntimeError):
        output_bytes(network, torch.zeros(1, *SHAPE))
    assert not any(module._forward_hooks for module in network.modules())


def control_group(folder, **files):
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(f"{text}\n")


def test_free_memory_without_a_limit_is_what_the_system_has(tmp_path, monkeypatch):
    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("Memory", (), {"available": 5000}))
    assert free_memory(process=tmp_path / "not on this system") == 5000
    (tmp_path / "process").write_text("0::/run\n")
    control_group(tmp_path / "groups" / "run", memory__max="max", memory__current=600, memory__stat="inactive_file 100")
    assert free_memory(process=tmp_path / "process", cgroups=tmp_path / "groups") == 5000


@pytest.mark.parametrize(("limit", "expected"), [(1000, 500), (700, 200), (400, 0), (10**6, 5000)])
def test_free_memory_of_a_container_is_what_its_limit_leaves(tmp_path, monkeypatch, limit, expected):
    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("Memory", (), {"available": 5000}))
    (tmp_path / "process").write_text("0::/slice/run\n")
    control_group(tmp_path / "groups" / "slice", memory__max=limit, memory__current=600, memory__stat="anon 500\ninactive_file 100")
    control_group(tmp_path / "groups" / "slice" / "run", memory__max="max", memory__current=300, memory__stat="inactive_file 0")
    assert free_memory(process=tmp_path / "process", cgroups=tmp_path / "groups") == expected


def test_free_memory_of_a_container_under_version_1_whose_path_is_that_of_the_host(tmp_path, monkeypatch):
    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("Memory", (), {"available": 5000}))
    (tmp_path / "process").write_text("5:cpu,memory:/docker/3f2a\n2:cpuset:/\n0::/\n")
    files = {"memory__limit_in_bytes": 1000, "memory__usage_in_bytes": 600, "memory__stat": "inactive_file 0\ntotal_inactive_file 50"}
    control_group(tmp_path / "groups" / "memory", **files)
    assert free_memory(process=tmp_path / "process", cgroups=tmp_path / "groups") == 450


@pytest.mark.parametrize(
    ("average", "running", "expected"),
    [
        (0.3, 1, 8),  # this process alone
        (2.6, 4, 5),
        (2.4, 9, 6),  # a moment's crowd is no load
        (5.0, 1, 8),  # what made the load has ended
        (30.0, 31, 1),
    ],
)
def test_free_cores_are_those_that_neither_the_last_minute_nor_this_moment_keeps_busy(tmp_path, monkeypatch, average, running, expected):
    for module, name in ((os, "cpu_count"), (joblib, "cpu_count"), (torch, "get_num_threads")):
        monkeypatch.setattr(module, name, lambda: 8)
    (tmp_path / "loadavg").write_text(f"{average:.2f} 4.00 4.00 {running}/345 21429\n")
    assert free_cores(loadavg=tmp_path / "loadavg") == expected


@pytest.mark.parametrize(
    ("load", "allowed", "threads", "expected"), [(10.0, 4, 64, 4), (10.0, 64, 4, 4), (61.8, 4, 4, 2), (70.0, 4, 4, 1), (0.0, 1, 1, 1)]
)
def test_a_process_that_may_use_few_cores_of_many_takes_no_more(tmp_path, monkeypatch, load, allowed, threads, expected):
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(joblib, "cpu_count", lambda: allowed)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(psutil, "getloadavg", lambda: (load, 0.0, 0.0))
    assert free_cores(loadavg=tmp_path / "not on this system") == expected


PEAK = """
import numpy as np, torch
from torchvision.models import squeezenet1_0
from repairkit import ConvFilters
from repairkit.run.resources import BYTES_PER_OUTPUT_BYTE, output_bytes

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
print((peak() - before) / (BYTES_PER_OUTPUT_BYTE * len(images) * output_bytes(network, images[:1])))
"""


@pytest.mark.extended
def test_a_real_network_stays_within_what_was_reckoned():
    done = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True, check=True)
    assert 0.2 < float(done.stdout) < 1
