"""HTML pages. They write nothing: what they show comes from the queries, what they do goes through the public API."""
