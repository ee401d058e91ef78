"""Services as `python -m services` runs them, that look twenty times a second whether another hour has begun."""

import sys

from services.kit import tasks

if __name__ == "__main__":
    tasks._LOOK = 0.05

    from services.__main__ import main

    sys.exit(main())
