"""The screen of a virtual phone: one model of widgets gives both the picture and the accessibility dump."""

from muster.sim.screen.apps.example import PASSWORD_DEFAULT, SignInPolicy
from muster.sim.screen.dialogs import DialogKind
from muster.sim.screen.screen import Screen, ScreenSpec

__all__ = ["PASSWORD_DEFAULT", "DialogKind", "Screen", "ScreenSpec", "SignInPolicy"]
