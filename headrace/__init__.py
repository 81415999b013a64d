"""What both sides of Headrace speak: the log, the records, the object store, the command line."""

__version__ = "0.1.0"
