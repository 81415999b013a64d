"""Rows by Datasette's write API: parsed, applied in batches, replicated and published."""
