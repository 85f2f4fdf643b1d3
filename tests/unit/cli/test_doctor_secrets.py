import json
import sys
from pathlib import Path

import pytest
from tests.support.commands import Command


def finding(muster: Command, data: Path) -> dict[str, str]:
    ran = muster(
        "doctor", "--node", "--data", str(data), "--adb-server", "127.0.0.1:1", "--vendor-url", "none", "--json"
    )
    return next(found for found in json.loads(ran.stdout) if found["check"] == "secrets")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")
def test_the_doctor_tells_how_to_mend_a_secrets_file_that_others_can_read(muster: Command, tmp_path: Path) -> None:
    path = tmp_path / "secrets.yaml"
    path.write_text("node: {PIN: 'canary-0815'}")
    path.chmod(0o644)
    found = finding(muster, tmp_path)
    assert found["verdict"] == "bad" and f"chmod 600 {path}" in found["detail"]
    path.chmod(0o600)
    assert finding(muster, tmp_path)["detail"] == f"1 in {path}"
    assert "canary" not in json.dumps(found)


def test_a_node_without_secrets_is_well(muster: Command, tmp_path: Path) -> None:
    assert finding(muster, tmp_path)["verdict"] == "ok"
