"""How a command says an error."""

from __future__ import annotations

import sys

import click

from headrace.errors import HeadraceError


class failing:  # noqa: N801 - reads as a verb
    """Say an error, and end by its code."""

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(self, _kind: object, exc: BaseException | None, _traceback: object) -> None:
        """Say what was raised on purpose, and end."""
        error = _find(exc)
        if error is None:
            return
        click.echo(f"headrace: {error}", err=True)
        if error.hint:
            click.echo(f"  {error.hint}", err=True)
        sys.exit(error.exit_code)


def _find(exc: BaseException | None) -> HeadraceError | None:
    """Find what was raised on purpose, also among what several tasks raised."""
    if isinstance(exc, BaseExceptionGroup):
        return next(filter(None, map(_find, exc.exceptions)), None)
    return exc if isinstance(exc, HeadraceError) else None
