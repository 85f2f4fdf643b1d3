"""What phones answer when they are asked who they are."""

from hypothesis import given
from hypothesis import strategies as st

from muster.agent.phone_talk import read_battery, read_told

GALAXY = b"""=muster=serialno
R5CT1
=muster=serialno-at-boot
R5CT1
=muster=model
SM-G991N
=muster=boot
3f0e6f8a-53a2-4b0e-a3f6-0d7b8f9f0c11
=muster=battery
Current Battery Service state:
  AC powered: false
  level: 87
  scale: 100
  temperature: 291
"""


def test_a_phone_tells_its_serial_model_boot_and_battery() -> None:
    told = read_told("USB1", GALAXY)
    assert told is not None
    assert (told.serialno, told.model, told.battery, told.temperature) == ("R5CT1", "SM-G991N", 87, 29.1)
    assert told.boot_id == "3f0e6f8a-53a2-4b0e-a3f6-0d7b8f9f0c11"


def test_line_ends_of_windows_change_nothing() -> None:
    assert read_told("USB1", GALAXY.replace(b"\n", b"\r\n")) == read_told("USB1", GALAXY)


def test_a_phone_that_hides_its_serial_may_tell_it_by_the_property_of_its_boot() -> None:
    told = read_told("USB1", GALAXY.replace(b"=serialno\nR5CT1", b"=serialno\n"))
    assert told is not None and told.serialno == "R5CT1"


def test_a_phone_without_readable_serial_and_boot_id_has_none() -> None:
    told = read_told("USB1", b"=muster=serialno\nunknown\n=muster=serialno-at-boot\n\n=muster=model\n\n=muster=boot\n")
    assert told is not None and (told.serialno, told.model, told.boot_id, told.battery) == (None, None, None, None)


def test_androids_emulators_share_one_serial_and_are_told_apart_by_their_port() -> None:
    answer = GALAXY.replace(b"R5CT1", b"EMULATOR34X1X19X0")
    first, second = read_told("emulator-5554", answer), read_told("emulator-5556", answer)
    assert first is not None and second is not None
    assert (first.serialno, second.serialno) == ("emulator-5554", "emulator-5556")


def test_an_impossible_battery_is_none() -> None:
    assert read_battery("  level: 900\n  temperature: -55") == (None, -5.5)
    assert read_battery("Can't find service: battery") == (None, None)


@given(st.binary(max_size=300))
def test_any_answer_is_read_or_refused(answer: bytes) -> None:
    read_told("USB1", answer)
    read_told("USB1", b"=muster=serialno\n" + answer + b"\n=muster=model\n" + answer)
