"""``python -m capplan`` is ``capplan``."""

from capplan.cli.main import main

if __name__ == "__main__":
    main()
