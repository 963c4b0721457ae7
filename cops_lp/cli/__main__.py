"""``python -m cops_lp.cli`` is ``cops-lp``."""

from . import main

if __name__ == "__main__":
    main()
