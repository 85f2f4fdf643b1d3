"""Typed client of the HTTP API, for the command line, the agent and the tests."""
