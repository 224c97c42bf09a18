"""``mtal`` and ``python -m orchestrator``: the same command."""

from orchestrator.cli import main

if __name__ == "__main__":
    main()
