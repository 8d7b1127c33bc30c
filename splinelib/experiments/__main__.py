"""``python -m splinelib.experiments``."""

import sys

from splinelib.experiments.cli import main

if __name__ == "__main__":
    sys.exit(main())
