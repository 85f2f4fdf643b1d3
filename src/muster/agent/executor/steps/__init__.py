"""A file per step kind."""
