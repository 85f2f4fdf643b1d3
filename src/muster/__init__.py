"""Muster calls a rack of Android phones to order: one recipe, hundreds of phones, one honest answer for each."""
