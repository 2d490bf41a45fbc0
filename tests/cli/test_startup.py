"""The list of commands comes at once."""

import subprocess
import sys
from pathlib import Path


def test_the_help_takes_little_longer_than_python_itself():
    script = Path(__file__).parents[2] / "benchmarks" / "startup.py"
    done = subprocess.run([sys.executable, script, "--times", "5"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
