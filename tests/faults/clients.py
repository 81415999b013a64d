"""Who uploads, and who reads: threads that note every answer."""

from __future__ import annotations

import json
import random
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import httpx

from tests.datasette_line import databases_of, query_path
from tests.faults import rows
from tests.faults.checker import classify
from tests.faults.system import READERS, TOKEN
from tests.faults.uploads import PAIRED, TABLES, make_upload

if TYPE_CHECKING:
    from tests.faults.history import History, Operation, Outcome
    from tests.faults.system import System
    from tests.faults.uploads import Part, Upload

UPLOADERS = 3
UPLOAD_TIMEOUT_S = 8.0  # after which a client knows nothing
READ_TIMEOUT_S = 40.0
LAST_ANSWER_S = 90.0  # for what is under way when everything was healed
SERVER_ERROR = 500


class Uploader(threading.Thread):
    """Uploads one batch after another; each is sent until its last answer, with its own key.

    Args:
        system: Where to.
        seed: Of the run.
        number: Of this client, of ``UPLOADERS``.
        sent: Gets every file, by its hash, before it is sent.
    """

    def __init__(self, system: System, seed: int, number: int, sent: dict[str, Part]) -> None:
        super().__init__(name=f"uploader-{number}")
        self.done = threading.Event()
        self._system = system
        self._seed = seed
        self._number = number
        self._sent = sent
        self._noise = random.Random(f"uploader {seed} {number}")
        self._client = httpx.Client(
            timeout=UPLOAD_TIMEOUT_S, headers={"Authorization": f"Bearer {TOKEN}"}
        )
        self._give_up_at_s = float("inf")

    def run(self) -> None:
        """Upload until told to end."""
        number = 100 + self._number
        while not self.done.is_set():
            self.deliver(make_upload(self._seed, number))
            number += UPLOADERS
            self.done.wait(self._noise.uniform(0, 0.3))
        self.close()

    def close(self) -> None:
        """Close its connections."""
        self._client.close()

    def deliver(self, upload: Upload) -> None:
        """Send an upload until it has its last answer; sometimes once more after it."""
        self._sent.update({part.sha256: part for part in upload.parts})
        while self._is_patient():
            sent = self._send(upload)
            if sent.outcome == "accepted":
                sent = self._follow(upload, sent)
            if sent.outcome == "fail":
                return
            if sent.outcome == "ok":
                if self._noise.random() < 0.15:
                    self._send(upload)
                return
            time.sleep(self._noise.uniform(0.05, 0.5))

    def _is_patient(self) -> bool:
        if self.done.is_set() and self._give_up_at_s == float("inf"):
            self._give_up_at_s = time.monotonic() + LAST_ANSWER_S
        return time.monotonic() < self._give_up_at_s

    def _send(self, upload: Upload) -> Operation:
        via = self._noise.choice([*READERS, "clients"])
        base = self._system.clients_url if via == "clients" else self._system.url(via)
        wait = self._noise.choice(["wait=5", "wait=5", "respond-async"])
        headers = {"Idempotency-Key": upload.key, "Prefer": wait}
        fields = dict(upload.fields)
        body: dict[str, Any]
        if len(upload.parts) == 1:
            fields["filename"] = upload.parts[0].filename
            body = {"content": upload.parts[0].body}
        else:
            body = {"files": [("file", (part.filename, part.body)) for part in upload.parts]}
        return self._ask(upload, "POST", f"{base}/ingest", params=fields, headers=headers, **body)

    def _follow(self, upload: Upload, accepted: Operation) -> Operation:
        """Look at the receipts of an upload that was taken in until all have ended."""
        last = accepted
        for receipt in accepted.value["receipts"]:
            while self._is_patient():
                via = self._noise.choice([*READERS, "clients"])
                base = self._system.clients_url if via == "clients" else self._system.url(via)
                last = self._ask(upload, "GET", f"{base}/ingest/receipts/{receipt['id']}")
                if last.outcome != "accepted" and last.value["status"] == 200:
                    break
                time.sleep(self._noise.uniform(0.05, 0.3))
            if last.outcome != "ok":
                return last
        return last

    def _ask(self, upload: Upload, method: str, url: str, **options: Any) -> Operation:
        """Ask once, and note what came of it."""
        f = "upload" if method == "POST" else "receipt"
        history = self._system.history
        began_s = history.now_s()
        facts = {
            "key": upload.key,
            "kind": upload.kind,
            "good": upload.good,
            "sha256": [part.sha256 for part in upload.parts],
            "url": url,
        }
        try:
            answer = self._client.request(method, url, **options)
            document = answer.json()
        except (httpx.TransportError, ValueError) as exc:
            facts |= {"status": 0, "code": repr(exc)}
            return history.note(f, self.name, "info", began_s=began_s, **facts)
        found = document.get("receipts", [document])
        receipts = [
            {name: each.get(name) for name in ("id", "sha256", "state", "generation")}
            for each in found
            if "id" in each
        ]
        code = document.get("code") or _error_of(found)
        facts |= {"status": answer.status_code, "code": code, "receipts": receipts}
        if answer.status_code >= 400:
            facts["detail"] = answer.text[:500]
        outcome = self._judge(f, answer.status_code, document, found)
        return history.note(f, self.name, outcome, began_s=began_s, **facts)

    def _judge(
        self, f: str, status: int, document: dict[str, Any], receipts: list[dict[str, Any]]
    ) -> Outcome:
        if f == "upload":
            return classify(status, document)
        if status != 200:
            return "info"
        (receipt,) = receipts
        if receipt["state"] == "published":
            return "ok"
        if receipt["state"] != "failed":
            return "accepted"
        return "info" if receipt["error"]["status"] >= SERVER_ERROR else "fail"


def _error_of(receipts: list[dict[str, Any]]) -> str | None:
    return next((each["error"]["code"] for each in receipts if each.get("error")), None)


class Watcher(threading.Thread):
    """Reads one reader all the while: databases as a whole, and the page of all databases."""

    def __init__(self, system: System, seed: int, reader: str) -> None:
        super().__init__(name=f"watcher-{reader}")
        self.done = threading.Event()
        self._history: History = system.history
        self._reader = reader
        self._noise = random.Random(f"watcher {seed} {reader}")
        self._client = httpx.Client(base_url=system.url(reader), timeout=READ_TIMEOUT_S)

    def run(self) -> None:
        """Read until told to end."""
        while not self.done.wait(self._noise.uniform(0.02, 0.15)):
            kind = self._noise.random()
            if kind < 0.15:
                self.read_rows()
            elif kind < 0.25:
                self.read_numbers(self._noise.choice(PAIRED))
            else:
                # Half of the answers may come from the reader's page cache.
                self.read(self._noise.choice(list(TABLES)), anew=self._noise.random() < 0.5)
        self.close()

    def close(self) -> None:
        """Close its connections."""
        self._client.close()

    def read_all(self) -> None:
        """Read everything once, past any cache."""
        for database in TABLES:
            self.read(database, anew=True)
        self.read_rows()
        for database in PAIRED:
            self.read_numbers(database)

    def read(self, database: str, *, anew: bool) -> None:
        """Read all tables of a database in one query."""
        query = " union all ".join(
            f"select '{table}' as name, count(*) as rows, count(distinct batch) as batches, "
            f"coalesce(sum(value), 0) as total from {table}"
            for table in TABLES[database]
        )
        params = {"sql": query, "_shape": "array"}
        if anew:
            params["n"] = str(self._noise.random())
        self._ask(query_path(database), params, database=database)

    def read_rows(self) -> None:
        """Read how many rows every database has, in one page."""
        self._ask("/.json", {}, database=None)

    def read_numbers(self, database: str) -> None:
        """Read what was written row by row."""
        params = {"sql": rows.QUERY, "_shape": "array", "n": str(self._noise.random())}
        self._ask(query_path(database), params, database=database)

    def _ask(self, path: str, params: dict[str, str], *, database: str | None) -> None:
        began_s = self._history.now_s()
        facts: dict[str, Any] = {"reader": self._reader, "database": database}
        outcome: Outcome = "fail"
        try:
            answer = self._get(path, params)
            facts["reader"] = self._reader
            facts["status"] = answer.status_code
            if answer.status_code == 200:
                facts["generation"] = int(answer.headers["Headrace-Generation"])
                facts |= _read_answer(answer.text, database)
                outcome = "ok"
            else:
                facts["error"] = answer.text[:500]
        except (httpx.TransportError, ValueError, LookupError) as exc:
            facts["error"] = repr(exc)
        self._history.note("read", self.name, outcome, began_s=began_s, **facts)

    def _get(self, path: str, params: dict[str, str]) -> httpx.Response:
        return self._client.get(path, params=params)


class BalancedWatcher(Watcher):
    """Reads as through a load balancer: from a reader that is ready, as it saw a moment ago.

    A reader that refuses the connection is left for another one. Any other failure is one.
    """

    LOOK_S = 0.1  # between two looks at who is ready

    def __init__(self, system: System, seed: int, name: str) -> None:
        super().__init__(system, seed, READERS[0])
        self.name = name
        self._clients = {
            each: httpx.Client(base_url=system.url(each), timeout=READ_TIMEOUT_S)
            for each in READERS
        }
        self._ready: list[str] = []
        self._looked_s = 0.0
        self._system = system

    def close(self) -> None:
        """Close its connections."""
        for client in (self._client, *self._clients.values()):
            client.close()

    def _get(self, path: str, params: dict[str, str]) -> httpx.Response:
        if time.monotonic() - self._looked_s > self.LOOK_S:
            self._ready = [each for each in READERS if self._system.is_ready(each)]
            self._looked_s = time.monotonic()
        for reader in self._noise.sample(self._ready, len(self._ready)):
            self._reader = reader
            with suppress(httpx.ConnectError):
                return self._clients[reader].get(path, params=params)
        raise LookupError("no reader is ready")


def _read_answer(text: str, database: str | None) -> dict[str, Any]:
    document = json.loads(text)
    if database is None:
        databases = databases_of(document)
        return {"rows": {name: each["table_rows_sum"] for name, each in databases.items()}}
    if "numbers" in document[0]:
        return {"numbers": json.loads(document[0]["numbers"])}
    return {
        "tables": {row["name"]: [row["rows"], row["batches"], row["total"]] for row in document}
    }
