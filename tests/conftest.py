"""For all tests: properties have no deadline, because two runs may share two slow cores."""

from hypothesis import settings

settings.register_profile("muster", deadline=None, print_blob=True)
settings.load_profile("muster")
