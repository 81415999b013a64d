"""The write side: receive, detect, convert, merge, replicate, publish."""
