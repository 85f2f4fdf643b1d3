"""One task from preflight to its outcome."""
