"""HTTP only: parse, call a use case, answer."""
