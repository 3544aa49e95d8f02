"""`python -m millstream_operator`: settings from the environment, then the operator until it is stopped."""

from __future__ import annotations

import asyncio
import logging
import os
import sys

from millstream_operator import log
from millstream_operator.app import Operator
from millstream_operator.settings import SettingsError, from_environment


def main() -> int:
    """Return the exit code: 0 after a signal, 1 when only a new process helps, 78 for wrong settings."""
    try:
        settings = from_environment(os.environ)
    except SettingsError as error:
        print(f"millstream operator: {error}", file=sys.stderr)
        return 78
    log.configure(settings.log_level)
    logging.getLogger("millstream_operator").info("operator.starts", extra={"namespaces": list(settings.namespaces)})
    return asyncio.run(Operator(settings).run())


if __name__ == "__main__":
    sys.exit(main())
