"""Files that others drop into a bucket or a folder are taken in, each once.

::

    place, folder   where they lie: look, read, move away
    names           which of them are for us, where one goes, and what its manifest says
    taking          one of them: keep its bytes, journal its receipt, and then let go of it
    mirror          what was made of those that were deleted since
    watching        looks at a place now and then, and whenever an event says so
    events          what stores send when an object was written or deleted

A file is told from others by where it lies, its ETag, its size and its date. The id of its receipt
follows from these, so it is taken once, whatever ends in between, and whoever tells of it how
often. The same key with other bytes, or written again later, is another file.
"""
