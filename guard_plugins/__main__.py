"""``python -m guard_plugins`` is ``guard-run``."""

import sys

from guard_plugins.cli.run import main

if __name__ == "__main__":
    sys.exit(main())
