"""Who is next: plain state, a pure decision, and the one place that acts on it."""
