"""``python -m guard_plugins.pipeline.processes.helper RUN``: makes items of a run beside the process that does it.

That process starts it and tells it by its standard input what to make. When the input ends, so does this process.
"""

from __future__ import annotations

import sys
from pathlib import Path

from guard_plugins.errors import GuardError
from guard_plugins.runtime.malloc import few_full_searches


def main() -> int:
    """Make what is asked for until the standard input ends."""
    try:
        with few_full_searches():  # before PyTorch is imported
            from guard_plugins.pipeline.processes.serving import serve

            serve(Path(sys.argv[1]))
    except GuardError as error:
        sys.stderr.write(f"{error}\n")  # the run says it, where it misses this process
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
