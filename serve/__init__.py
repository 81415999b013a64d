"""The read side: follow, restore, verify, probe, switch, drain, retire."""
