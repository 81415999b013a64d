"""The last generations, read when somebody looks."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from headrace.keys import generation_key
from headrace.log import GenerationLog
from serve.recent import KEPT, NAMES, RecentGenerations
from tests.integration.reader_kit import Publisher
from tests.unit.test_generation import make_cut

if TYPE_CHECKING:
    from pathlib import Path


async def test_generation_is_read_once(tmp_path: Path) -> None:
    """Whoever looks again asks the store only for what is new."""
    publisher = Publisher(tmp_path)
    for number in range(KEPT + 5):
        await publisher.publish({"sales": make_cut(txid=number + 1)})
    recent = RecentGenerations(GenerationLog(publisher.store))
    found = await recent.read(KEPT + 5)
    assert [each.number for each in found] == list(range(6, KEPT + 6))
    assert found[-1].files == {"sales": "orders.csv"}
    for number in range(6, KEPT + 6):  # whoever read one again would not find it
        await publisher.store.delete(generation_key(number))
    await publisher.publish({}, removed=["sales"])
    found = await recent.read(KEPT + 6)
    assert [each.number for each in found] == list(range(7, KEPT + 7))
    assert (found[-1].files, found[-1].removed) == ({}, ("sales",))


async def test_generations_that_are_pruned_are_not_asked_for_again(tmp_path: Path) -> None:
    """A log that begins late is read from there; one that is not visible yet is looked for anew."""
    publisher = Publisher(tmp_path)
    for number in range(10):
        await publisher.publish({"sales": make_cut(txid=number + 1)})
    entry = await publisher.store.read(generation_key(3))
    newest = await publisher.store.read(generation_key(10))
    for number in (1, 2, 3, 10):
        await publisher.store.delete(generation_key(number))
    recent = RecentGenerations(GenerationLog(publisher.store))
    assert [each.number for each in await recent.read(10)] == [4, 5, 6, 7, 8, 9]
    await publisher.store.create(generation_key(3), entry)
    await publisher.store.create(generation_key(10), newest)
    assert [each.number for each in await recent.read(10)] == [4, 5, 6, 7, 8, 9, 10]


async def test_generation_of_many_databases_is_told_in_short(tmp_path: Path) -> None:
    """A rollback of everything does not make the page a list of thousands."""
    publisher = Publisher(tmp_path)
    cuts = {f"d{n}": replace(make_cut(), source=None) for n in range(NAMES + 7)}
    await publisher.publish(cuts)
    await publisher.publish({}, removed=cuts)
    put, removed = await RecentGenerations(GenerationLog(publisher.store)).read(2)
    assert (len(put.files), put.more, set(put.files.values())) == (NAMES, 7, {None})
    assert (len(removed.removed), removed.more) == (NAMES, 7)


async def test_store_that_fails_hides_no_page(tmp_path: Path) -> None:
    """What was read before is told all the same: the follower says what is wrong."""
    publisher = Publisher(tmp_path)
    await publisher.publish({"sales": make_cut()})
    await publisher.publish({"sales": make_cut(txid=2)})
    assert publisher.store.folder
    recent = RecentGenerations(GenerationLog(publisher.store))
    assert len(await recent.read(1)) == 1
    (publisher.store.folder / generation_key(2)).write_text("no entry")
    assert [each.number for each in await recent.read(2)] == [1]
