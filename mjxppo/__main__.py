"""``python -m mjxppo``: the command line."""

import sys

from mjxppo.cli import main

if __name__ == "__main__":
    sys.exit(main())
