"""The workflow language: typed model, parser that reports every error at once, templates, a pure interpreter."""
