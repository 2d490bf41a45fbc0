"""How long `repairkit --help` takes, beside `python -c pass`: at most 1.3 times as long plus half a second."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from statistics import median

FACTOR, SECONDS = 1.3, 0.5
CODE = "import sys; from repairkit import cli; sys.exit(cli.call(['--help']))"


def seconds(code: str) -> float:
    """Wall-clock seconds of a fresh interpreter that runs this code."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)  # noqa: S603 - our own code
    return time.perf_counter() - started


def main() -> None:
    """Print medians and the limit; ends with 1 where the limit is passed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=9)
    times = parser.parse_args().times
    pairs = [(seconds("pass"), seconds(CODE)) for _ in range(times)]  # in turn, so that other work slows both
    bare, shown = (median(column) for column in zip(*pairs, strict=True))
    limit = FACTOR * bare + SECONDS
    print(f"| python -c pass | repairkit --help | limit |\n| ---: | ---: | ---: |\n| {bare:.3f} s | {shown:.3f} s | {limit:.3f} s |")
    sys.exit(shown > limit)


if __name__ == "__main__":
    main()
