"""Reading metrics as a node shows them."""

from __future__ import annotations

import re


def find_sample(text: str, sample: str) -> float | None:
    """Find a sample by its name and labels, in their order, but for the region; None: no such."""
    for line in text.splitlines():
        name, _, value = re.sub(r',?region="[^"]*"', "", line).partition(" ")
        if name.replace("{,", "{").removesuffix("{}") == sample:
            return float(value.partition(" ")[0])
    return None
