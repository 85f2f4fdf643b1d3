"""The apps of a virtual phone: each says what its pages hold and what a press on a key does."""
