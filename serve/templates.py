"""Datasette's templates, compiled once: workers share the code instead of compiling it again.

Compiling them is most of what a worker's first page costs: with 0.65.5 it took 0.084 s and 7 MB of
each worker's own memory, and takes 0.021 s and 4 MB with them compiled in the nursery.
"""

from __future__ import annotations

import marshal
import os
import traceback
from typing import TYPE_CHECKING, NoReturn

from datasette.app import Datasette
from datasette.version import __version_info__
from jinja2 import BytecodeCache, Environment, TemplateError

from headrace.leash import die_with_parent

if TYPE_CHECKING:
    from types import CodeType

    from jinja2.bccache import Bucket

_UNUSED = {} if __version_info__[0] == "0" else {"internal": ""}  # else 1.0 makes a file


class SharedTemplates(BytecodeCache):
    """Compiled templates of this process, and of those forked from it.

    A template is the same if its file and its text are; so those that a user overrides are compiled
    by the worker that shows them.
    """

    def __init__(self) -> None:
        self._compiled: dict[tuple[str, str], CodeType] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        """Find a compiled template."""
        bucket.code = self._compiled.get((bucket.key, bucket.checksum))

    def dump_bytecode(self, bucket: Bucket) -> None:
        """Keep a compiled template."""
        if bucket.code is not None:
            self._compiled[bucket.key, bucket.checksum] = bucket.code

    def take(self, compiled: bytes) -> None:
        """Take what ``give`` has given."""
        self._compiled.update(marshal.loads(compiled))  # noqa: S302 - of a process of ours

    def give(self) -> bytes:
        """Give all compiled templates."""
        return marshal.dumps(self._compiled)

    def compile_all(self, environment: Environment) -> None:
        """Compile all templates that an environment finds; a broken one is told when it is used."""
        environment.bytecode_cache = self
        for name in environment.list_templates():
            try:
                environment.get_template(name)
            except (TemplateError, UnicodeDecodeError):
                continue


TEMPLATES = SharedTemplates()


def environment_of(datasette: Datasette) -> Environment:
    """Give Datasette's own environment, whatever a plugin may put in its place for a request."""
    is_0 = __version_info__[0] == "0"
    environment: Environment = datasette.jinja_env if is_0 else datasette.get_jinja_environment()
    return environment


def compile_templates() -> None:
    """Compile the templates of Datasette, and of the plugins that are installed beside it.

    A child does it: it takes with it what compiling leaves in the heap, 1.5 MB with 0.65.5. If it
    fails, which it says, workers compile what they show.
    """
    reading, writing = os.pipe()
    parent_pid = os.getpid()
    pid = os.fork()
    if pid == 0:
        os.close(reading)  # else it would wait for itself to read, if its parent is killed
        _compile_and_end(writing, parent_pid)
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        compiled = file.read()
    os.waitpid(pid, 0)
    if compiled:
        TEMPLATES.take(compiled)


def _compile_and_end(descriptor: int, parent_pid: int) -> NoReturn:
    try:
        die_with_parent(parent_pid)
        datasette = Datasette(settings={"num_sql_threads": 0}, **_UNUSED)
        TEMPLATES.compile_all(environment_of(datasette))
        with os.fdopen(descriptor, "wb") as file:
            file.write(TEMPLATES.give())
    except BaseException:  # noqa: BLE001 - this is the last frame of the process
        traceback.print_exc()
    finally:
        os._exit(0)
