"""`python -m repairkit`."""

from repairkit.cli import main

main()
