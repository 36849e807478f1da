"""`python -m tusserver` is the command."""

import sys

from tusserver.cli.command import main

sys.exit(main())
