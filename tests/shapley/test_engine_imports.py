from __future__ import annotations

import subprocess
import sys


def test_the_engine_needs_neither_torch_nor_images_nor_tables():
    script = "import sys, repairkit.shapley; print(*sorted({'torch', 'torchvision', 'PIL', 'pandas', 'pyarrow'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
