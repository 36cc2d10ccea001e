"""``python -m hiervla.cli`` is the same as ``hiervla``."""

import sys

from hiervla.cli import main

sys.exit(main())
