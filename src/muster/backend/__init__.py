"""The backend: makes runs, hands out commands, takes in events, shows what is. It executes nothing."""
