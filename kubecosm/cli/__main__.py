"""`kubecosm`: the entry point. Expected failures become one line on stderr; nobody sees a traceback."""

from __future__ import annotations

import sys


def main() -> None:
    """Runs the command line; ends in sys.exit (0 done, 1 failed for a reason that the line tells, 2 wrong usage)."""
    from kubecosm.cli.commands import cli
    from kubecosm.runtime.errors import EXIT_STARTUP_ERROR, StartupError

    try:
        cli(prog_name="kubecosm")
    except StartupError as error:
        print(f"kubecosm: {error.message}", file=sys.stderr)
        sys.exit(EXIT_STARTUP_ERROR)
    except BrokenPipeError:  # the reader of our output left
        sys.stderr.close()
        sys.exit(EXIT_STARTUP_ERROR)


if __name__ == "__main__":
    main()
