"""`python -m millstream_pipelines.cli`: the same as `millstream`, where no script is installed."""

import sys

from millstream_pipelines.cli import main

sys.exit(main())
