"""What the commands do that work from any machine: everything goes over HTTP to a reader's URL."""
