"""Durations as ISO 8601 writes them."""

from __future__ import annotations


def duration_text(value: int, digits: int) -> str:
    """Give a duration, hours at most: ``PT36H0.5S``.

    Args:
        value: In units of ``10 ** -digits`` seconds.
        digits: Of the fraction of a second.
    """
    seconds, fraction = divmod(abs(value), 10**digits)
    hours, minutes, seconds = seconds // 3600, seconds // 60 % 60, seconds % 60
    text = f"{seconds}.{fraction:0{digits}}".rstrip("0").rstrip(".") if fraction else f"{seconds}"
    parts = (f"{hours}H" if hours else "", f"{minutes}M" if minutes else "")
    last = f"{text}S" if text != "0" or not any(parts) else ""
    return f"{'-' if value < 0 else ''}PT{''.join(parts)}{last}"
