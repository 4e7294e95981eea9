"""``recbole-mm``, ``python -m recbole_mm``, and ``torchrun -m recbole_mm`` for several processes."""

import sys


def run(command: str | None = None) -> None:
    """Run the command line and end the process.

    Args:
        command: command to insert before the arguments.
    """
    try:
        from recbole_mm.tools import interrupts

        interrupts.take_over()
        for stream in (sys.stdout, sys.stderr):  # may have another encoding if not a terminal
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")
        from recbole_mm.cli import main

        status = main([command, *sys.argv[1:]] if command else None)
        interrupts.let_go()
    except KeyboardInterrupt:  # before or after the command, which reports its own interruption
        print("recbole-mm: error: interrupted", file=sys.stderr)
        status = 130
    sys.exit(status)


if __name__ == "__main__":
    run()
