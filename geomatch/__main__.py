"""`python -m geomatch`."""

from geomatch.cli.app import main

main()
