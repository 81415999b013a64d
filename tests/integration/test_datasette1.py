"""The status page and the foot of pages in Datasette 1.0, whose hooks and templates are others."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.unit.test_status_picture import seen

ROOT = Path(__file__).parents[2]
HERE = ROOT / "tests" / "datasette1"


def test_plugin_works_in_datasette_1(tmp_path: Path) -> None:
    """Each page says where it comes from, the status page what there is to see; none says more."""
    packages = tmp_path / "packages"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile"]
    wanted = ["--requirement", str(HERE / "requirements.txt"), "--target", str(packages)]
    subprocess.run([*pip, "--disable-pip-version-check", *wanted], check=True, timeout=110)
    reader = {"city": "Frankfurt", "databases": 2, "version": "1", "workers": 1}
    told = seen()
    told["reader"] |= reader
    told["primary"] |= {"known": False, "away_since": None}
    said = {"seen": told, "seen_version": "1", "is_known": False, "uploads": None}
    subprocess.run(
        [sys.executable, "-m", "tests.datasette1.pages", str(tmp_path)],
        input=json.dumps({**said, "has_sign_in": True}),
        env={**os.environ, "PYTHONPATH": f"{packages}:{ROOT}"},
        check=True,
        capture_output=True,  # Datasette prints each error
        text=True,
        timeout=60,
    )
    pages = json.loads((tmp_path / "pages.json").read_text())
    assert pages["version"].startswith("1.")
    foot = "</time>, from sales.csv, generation 7, "
    assert foot in pages["/sales"]
    assert foot in pages["/sales/orders"]
    assert "</time>, generation 9, " in pages["/"]
    for path in ("/secret", "/none"):
        assert "secret.csv" not in pages[path]
    status = pages["/-/headrace"]
    assert '<html lang="en">' in status
    assert "Everything is up to date" in status
    assert "orders.csv → <a" in " ".join(status.split())
    assert "salaries" not in status
    assert "headrace-ago" in pages["script"]
