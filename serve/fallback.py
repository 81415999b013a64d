"""The last way to a copy."""

from headrace.litestream_restore import LitestreamRestore

__all__ = ["LitestreamRestore"]
