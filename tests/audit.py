"""Ask for known vulnerabilities of what is locked: ``python -m tests.audit LOCK…``.

pip-audit asks the package index. Where that tells nothing about vulnerabilities, pip-audit says
that it found none: this says that nobody answered.
"""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

ANSWER_S = 15


def judge(report: dict[str, Any]) -> tuple[bool, str]:
    """Tell whether all is well as far as anybody knows, and what there is to say.

    Args:
        report: What pip-audit gives as JSON.
    """
    asked = [each for each in report["dependencies"] if "skip_reason" not in each]
    unknown = [each["name"] for each in report["dependencies"] if "skip_reason" in each]
    lines = [
        f"{each['name']} {each['version']}: {found['id']}, mended in {found['fix_versions'] or '-'}"
        for each in asked
        for found in each["vulns"]
    ]
    if lines:
        return False, "\n".join(["audit: known vulnerabilities:", *lines])
    if not asked:
        return True, f"audit: NOT DONE: nobody answered about any of {len(unknown)} packages"
    said = f"audit: {len(asked)} packages without a known vulnerability"
    return True, f"{said}; nothing is known of {', '.join(unknown)}" if unknown else said


def audit(lock: str) -> dict[str, Any]:
    """Have pip-audit ask about all that is in a lock file; nothing is installed."""
    command = [sys.executable, "-m", "pip_audit", "--requirement", lock, "--require-hashes"]
    command += ["--disable-pip", "--progress-spinner", "off", "--format", "json"]
    command += ["--timeout", str(ANSWER_S)]
    ended = subprocess.run(command, capture_output=True, check=False)
    try:
        report: dict[str, Any] = json.loads(ended.stdout)
    except ValueError:  # it could not reach anybody
        reason = ended.stderr.decode(errors="replace").strip().splitlines()[-1:]
        return {"dependencies": [{"name": "all", "skip_reason": " ".join(reason)}]}
    return report


def main(locks: list[str]) -> int:
    """Audit lock files; 1 if something is known."""
    well = True
    with ThreadPoolExecutor() as executor:
        reports = list(executor.map(audit, locks))
    for lock, report in zip(locks, reports, strict=True):
        fine, said = judge(report)
        well = well and fine
        print(f"{lock}: {said}")  # noqa: T201 - what it is for
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
