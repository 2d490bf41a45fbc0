"""What a wheel holds: with the package from it alone, models load and reports are drawn."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from repairkit import __version__

ROOT = Path(__file__).parents[2]
USE = """
import repairkit
from repairkit.models import zoo
from repairkit.report import glossary, html

assert repairkit.__file__.startswith({place!r}), repairkit.__file__
assert zoo.load("squeezenet_celeba_dropout").stand_in
assert glossary.glossary(["Recall"], ["Claim"])
assert html.page("t", kicker="k", header="", main="", footer="")
assert html.__file__.startswith({place!r})
"""


@pytest.mark.extended
def test_a_wheel_holds_all_that_the_package_needs(tmp_path):
    source = tmp_path / "source"  # a build leaves files in its tree, which would hide what the next one misses
    subprocess.run(["git", "checkout-index", "--all", f"--prefix={source}/"], cwd=ROOT, check=True)
    subprocess.run([sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", tmp_path, source], check=True)
    (wheel,) = tmp_path.glob("repairkit-*.whl")
    place = tmp_path / "unpacked"
    zipfile.ZipFile(wheel).extractall(place)
    listed = subprocess.run(["git", "ls-files", "repairkit"], cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()
    listed = [name for name in listed if name != "repairkit/recipes"]  # a link, of which the wheel has the files
    assert {path.name for path in (ROOT / "recipes").glob("*.toml")} == {path.name for path in (place / "repairkit" / "recipes").iterdir()}
    assert {name for name in listed if not (place / name).is_file()} == set()
    assert {path.name for path in place.iterdir()} - {"repairkit"} == {f"repairkit-{__version__}.dist-info"}
    use = [sys.executable, "-c", USE.format(place=str(place))]
    environment = {"PYTHONPATH": str(place), "HOME": str(tmp_path)}
    subprocess.run(use, check=True, cwd=tmp_path, env=environment)
    shown = [sys.executable, "-m", "repairkit", "recipes"]
    assert "fig4_dropout.toml" in subprocess.run(shown, check=True, cwd=tmp_path, env=environment, capture_output=True, text=True).stdout
