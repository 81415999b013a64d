"""Why a store did not do what was asked, for a person to read. Pure.

obstore's errors give the whole request, how often and how long it was tried, the first line of the
store's own XML, and then the debug form of every error below. So what they say differs each time.
"""

from __future__ import annotations

import re

_STATUS = re.compile(r"status code: (\d{3}[ A-Za-z]*)")
_CODE = re.compile(r"<Code>([^<]{1,100})</Code>")
_MESSAGE = re.compile(r"<Message>([^<]{1,300})</Message>")
_SYSTEM = re.compile(r'message: "([^"]{1,100})"')  # the operating system's
_CUT_SHORT = "IncompleteBody"  # hyper's name for a body that ends before its length


def tell_reason(exc: Exception) -> str:
    """Give the reason of one of obstore's errors, or of the system's, in a line."""
    text = str(exc)
    if status := _STATUS.search(text):
        said = [found[1].rstrip(".") for each in (_CODE, _MESSAGE) if (found := each.search(text))]
        why = f" ({': '.join(said)})" if said else ""
        return f"the store answers {status[1].strip()}{why}"
    if _CUT_SHORT in text:
        return "the store's answer was cut short"
    if system := _SYSTEM.search(text):
        return f"the store cannot be asked: {system[1].lower()}"
    return (text.splitlines() or [type(exc).__name__])[0]
