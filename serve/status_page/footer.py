"""What stands at the foot of a page: where its data came from, when, and where it is read.

Pages are kept for as long as what they depend on stays the same (``serve/depends.py``), so a page
says of the generation only what it depends on: that of a database when that was last changed, all
others the generation itself. Ages are made by a script, out of the time.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from serve.depends import first_segment
from serve.metadata import one_line
from serve.status_page.moment import Moment

if TYPE_CHECKING:
    from datasette.app import Datasette
    from datasette.utils.asgi import Request

    from serve.provenance import Provenance


_MOST_LETTERS = 40  # of a file name


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What a page says of its data.

    Attributes:
        read_in: Where the reader is.
        at: When the database, or the generation, was published; None: it is not said.
        filename: The file that the database came from.
        generation: In which that was.
    """

    read_in: str
    at: Moment | None = None
    filename: str | None = None
    generation: int | None = None


def find_origin(
    datasette: Datasette, request: Request | None, database: str | None
) -> Origin | None:
    """Give what a page says of its data; None: nothing.

    Args:
        datasette: Knows what it shows.
        request: For the page.
        database: The one that the page is of, and that whoever asks may see; None: of none.
    """
    shown: Provenance | None = getattr(datasette, "provenance", None)
    if shown is None or shown.read_in is None:
        return None
    here = Origin(read_in=shown.read_in)
    if database is not None:
        cut = shown.cuts.get(database)
        if cut is None:  # of the user's own directory
            return here
        return replace(
            here,
            at=Moment.of(cut.updated_at),
            filename=None if cut.source is None else _shorten(one_line(cut.source.filename)),
            generation=cut.generation,
        )
    if request is None or first_segment(request.path, datasette.setting("base_url")) in shown.cuts:
        return here  # an error, of a database that this person may not see
    at = None if shown.published_at is None else Moment.of(shown.published_at)
    return replace(here, at=at, generation=shown.generation)


def _shorten(filename: str) -> str:
    """Cut a name that would be wider than a phone, of which no line breaks."""
    return filename if len(filename) <= _MOST_LETTERS else f"{filename[: _MOST_LETTERS - 1]}…"
