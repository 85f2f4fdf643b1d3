"""SQL and objects. Every write of a state is one conditional UPDATE."""
