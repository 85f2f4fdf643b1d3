"""The vendor's casting tool, imitated: a WebSocket server over the rack's phones, with the tool's habits (spec/05)."""

from muster.sim.vendor.ports import VendorPhone, VendorRack
from muster.sim.vendor.quirks import VendorPace, VendorQuirks
from muster.sim.vendor.server import VendorServer

__all__ = ["VendorPace", "VendorPhone", "VendorQuirks", "VendorRack", "VendorServer"]
