"""Records how Datasette answers the requests of ``tests/data/datasette/cases.json``.

Run it with the Python of an environment that has the Datasette to be recorded, such as the peers of
``make bench``: ``.venv/peers/datasette/bin/python tests/record_datasette_answers.py``.
"""

from __future__ import annotations

import asyncio
import json
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

FOLDER = Path(__file__).parent / "data" / "datasette"
TABLES = ("dogs", "a table/with ~ and ü", "compound", "keyless", "blobs", "defaults")


async def record() -> dict[str, Any]:
    """Send each request to a Datasette with an empty database; give what it answered."""
    from datasette.app import Datasette  # noqa: PLC0415 - of the other environment

    answers = []
    with TemporaryDirectory() as folder:
        path = Path(folder) / "data.db"
        path.touch()
        datasette = Datasette([str(path)], settings={"force_https_urls": False})
        datasette.root_enabled = True
        for target, body in json.loads((FOLDER / "cases.json").read_text()):
            text = body if isinstance(body, str) else "" if body is None else json.dumps(body)
            response = await datasette.client.post(target, content=text, actor={"id": "root"})
            answers.append([target, body, response.status_code, _document(response)])
        tables = {}
        for table in TABLES:
            found = await datasette.get_database("data").execute(f'select rowid, * from "{table}"')
            tables[table] = [
                [each.hex() if isinstance(each, bytes) else each for each in row] for row in found
            ]
    return {"version": metadata.version("datasette"), "answers": answers, "tables": tables}


def _document(response: Any) -> Any:
    """Give an answer's JSON; None where Datasette fails without any."""
    return response.json() if "json" in response.headers["content-type"] else None


def main() -> None:
    """Write the answers beside the requests."""
    recorded = asyncio.run(record())
    lines = ",\n".join(json.dumps(each, ensure_ascii=False) for each in recorded["answers"])
    tables = json.dumps(recorded["tables"], ensure_ascii=False)
    text = f'{{"version": "{recorded["version"]}", "answers": [\n{lines}\n], "tables": {tables}}}\n'
    (FOLDER / "answers.json").write_text(text)


if __name__ == "__main__":
    main()
