"""What flyctl and Tigris' command line know of what docs/howto/deploy-on-fly.md has people type.

Sources, as of August 2026: superfly/docs 5c22c8c, ``flyctl/cmd/fly_….md``, one page a command;
tigrisdata/cli 8e1e1e6, ``src/specs.yaml``.
"""

from __future__ import annotations

_OF_APP = {"-c", "-a"}

FLAGS: dict[str, set[str]] = {
    "fly apps create": {"--network", "--org", "--yes"},
    "fly apps destroy": {"--yes"},
    "fly auth signup": set(),
    "fly checks list": _OF_APP,
    "fly config validate": {*_OF_APP, "--strict"},
    "fly deploy": {*_OF_APP, "--image", "--image-label", "--strategy"},
    "fly machine destroy": {*_OF_APP, "--force"},
    "fly machine list": _OF_APP,
    "fly machine start": _OF_APP,
    "fly machine stop": _OF_APP,
    "fly releases": {*_OF_APP, "--image"},
    "fly scale count": {*_OF_APP, "--region", "--yes", "--max-per-region"},
    "fly secrets set": {*_OF_APP, "--stage"},
    "fly storage create": {*_OF_APP, "-n", "--yes"},
    "fly storage destroy": {*_OF_APP, "--yes"},
    "fly volumes create": {*_OF_APP, "--region", "--size", "--scheduled-snapshots", "--yes"},
    "fly volumes destroy": {*_OF_APP, "--yes"},
    "fly volumes list": _OF_APP,
    "tigris login": set(),
    "tigris buckets set-locations": {"--locations"},
}
