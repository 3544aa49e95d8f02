"""`make demo` on the real data: every count as it is known to be, the second run without a row."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path


def test_demo_counts(root: Path, tmp_path: Path, server_folder: Path) -> None:
    environment = {**os.environ, "MILLSTREAM_HOME": str(server_folder)}
    result = subprocess.run(
        [sys.executable, str(root / "examples/demo-nycflights/demo.py")],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "WRONG" not in result.stdout
    assert re.search(r"flights +336,776 +336,776", result.stdout)
    assert "nothing was new" in result.stdout
    report = re.search(r"^report: (.+)$", result.stdout, re.MULTILINE)
    assert report is not None
    page = Path(report.group(1)).read_text(encoding="utf-8")
    for words in ("721 values on 50094 rows", "4 values on 7602 rows", "2,512", "8,255", "<svg"):
        assert words in page
