"""How the edge tells a worker that a request comes from itself, and from no client."""

# No client can send it on to a worker (``serve/headers.py`` drops it). The body is then what the
# page shows, as JSON.
PAGE_HEADER = "Headrace-Page"
