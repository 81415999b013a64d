"""Which token a command asks with, and where `headrace login` keeps it.

A token is never an argument of a command: everybody on the machine could read it there.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from urllib.parse import urlsplit

from headrace.durable import replace_file
from headrace.errors import HeadraceError, NotAllowedError
from headrace.remote.folders import config_folder
from headrace.remote.urls import is_local

SERVICE = "headrace"  # in the keyring
LOCAL_FILE = Path("data") / "token"  # of `headrace up`, in the folder that it was started in


def find_token(url: str, file: Path | None = None) -> str | None:
    """Find the token for a server.

    In this order: the file that is named, ``HEADRACE_TOKEN``, what ``headrace login`` kept, and for
    a server on this machine that of ``headrace up``, which would be no other server's business.

    Args:
        url: Of the server.
        file: Named by the person.

    Raises:
        HeadraceError: The file, or the keyring, cannot be read; or that is no token.
    """
    if file is not None:
        return checked(read_file(file))
    if token := os.environ.get("HEADRACE_TOKEN", "").strip() or read_kept(url):
        return checked(token)
    if is_local(url) and LOCAL_FILE.exists():
        return checked(read_file(LOCAL_FILE))
    return None


def checked(token: str) -> str:
    """Give a token that a header can hold.

    Raises:
        NotAllowedError: It cannot; what it is, is not said.
    """
    if not token.isascii() or not token.isprintable() or not token or " " in token:
        raise NotAllowedError("that is no token", hint="a token is one word, on one line")
    return token


def goes_in_the_open(url: str) -> bool:
    """Say whether a token for a URL could be read on its way."""
    return urlsplit(url).scheme != "https" and not is_local(url)


def keep(url: str, token: str) -> str:
    """Keep a token for a server; say where.

    Raises:
        HeadraceError: It cannot be kept.
    """
    ring = _find_keyring()
    if ring is not None:
        ring.set_password(SERVICE, _name(url), token)
        return "the keyring"
    tokens = _read_file()
    tokens[_name(url)] = token
    _write_file(tokens)
    return str(_file())


def forget(url: str) -> bool:
    """Forget the token for a server; False if none was kept."""
    found = read_kept(url) is not None
    ring = _find_keyring()
    if ring is not None and ring.get_password(SERVICE, _name(url)) is not None:
        ring.delete_password(SERVICE, _name(url))
    tokens = _read_file()
    if tokens.pop(_name(url), None) is not None:
        _write_file(tokens)
    return found


def read_kept(url: str) -> str | None:
    """Read what was kept for a server; None if nothing was."""
    ring = _find_keyring()
    kept = None if ring is None else ring.get_password(SERVICE, _name(url))
    return kept or _read_file().get(_name(url))


class _Keyring:
    """The keyring of this machine; all its failures are one."""

    def __init__(self) -> None:
        import keyring  # noqa: PLC0415 - an extra

        self._keyring = keyring.get_keyring()

    @property
    def is_usable(self) -> bool:
        # Source: keyring 25, backend.py: "a suitable, recommended backend" has at least 1. What is
        # there where no keyring is has 0, and the plain file of keyrings.alt 0.5.
        return float(self._keyring.priority) >= 1

    def get_password(self, service: str, name: str) -> str | None:
        return self._do("get_password", service, name)

    def set_password(self, service: str, name: str, token: str) -> None:
        self._do("set_password", service, name, token)

    def delete_password(self, service: str, name: str) -> None:
        self._do("delete_password", service, name)

    def _do(self, method: str, *arguments: str) -> str | None:
        from keyring.errors import KeyringError  # noqa: PLC0415 - an extra

        try:
            answer: str | None = getattr(self._keyring, method)(*arguments)
        except KeyringError as exc:
            raise HeadraceError(
                f"cannot use the keyring: {exc}",
                hint="unlock it, or use --token-file or HEADRACE_TOKEN",
            ) from exc
        return answer


def _find_keyring() -> _Keyring | None:
    """Find the keyring; None if the extra is not installed, or the machine has none."""
    try:
        ring = _Keyring()
    except ImportError:
        return None
    return ring if ring.is_usable else None


def _name(url: str) -> str:
    """Give the name that a server's token is kept under."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}".lower()


def _file() -> Path:
    return config_folder() / "tokens.json"


def _read_file() -> dict[str, str]:
    try:
        document = json.loads(_file().read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as exc:
        raise HeadraceError(f"cannot read the tokens in {_file()}: {exc}") from exc
    return {str(name): str(token) for name, token in document.items()}


def _write_file(tokens: dict[str, str]) -> None:
    before = os.umask(0o077)
    try:
        replace_file(_file(), json.dumps(tokens, indent=1).encode() + b"\n")
    except OSError as exc:
        raise HeadraceError(f"cannot write {_file()}: {exc.strerror}") from exc
    finally:
        os.umask(before)


def read_file(file: Path) -> str:
    """Read a token out of a file.

    Raises:
        HeadraceError: It cannot be read.
    """
    try:
        return file.read_text().strip()
    except (OSError, ValueError) as exc:
        why = getattr(exc, "strerror", None) or exc
        raise HeadraceError(f"cannot read the token in {file}: {why}") from exc
