"""``python -m filestore``."""

from filestore.cli.main import main

if __name__ == "__main__":
    main()
