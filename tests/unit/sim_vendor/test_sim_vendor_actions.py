"""Every action of the table in spec/05, asked over a real WebSocket."""

import asyncio
from pathlib import Path

import pytest
from tests.support.vendor_rack import Rack
from tests.support.waiting import until
from tests.unit.sim_vendor.conftest import Talker
from websockets.asyncio.client import connect

from muster.sim.vendor import VendorServer
from muster.sim.vendor.actions import OWN_KEYBOARD

DONE, FAILED = 10_000, 10_001
FIELDS = {
    *("serial", "onlySerial", "name", "model", "sort", "mode", "status", "connectTime", "intranetIp", "hide"),
    *("width", "height", "sourceWidth", "sourceHeight"),
}


def whole_pictures(folder: Path) -> list[bytes]:
    """Every whole PNG under a folder."""
    found = [path.read_bytes() for path in folder.rglob("*.png")] if folder.is_dir() else []
    return [data for data in found if data.endswith(b"IEND\xaeB`\x82")]


class TestList:
    async def test_it_tells_every_phone_with_all_the_fields_of_the_manual(self, talker: Talker, rack: Rack) -> None:
        code, message, data = await talker.ask("list")
        assert (code, message) == (DONE, "SUCCESS")
        assert [entry["onlySerial"] for entry in data] == [phone.only_serial for phone in rack.members]
        assert set(data[0]) == FIELDS
        assert (data[0]["serial"], data[0]["sourceWidth"], data[0]["status"]) == ("127.0.0.1:41001", 360, "online")

    async def test_a_phone_that_moved_to_wifi_keeps_its_only_serial(self, talker: Talker, rack: Rack) -> None:
        before = (await talker.ask("list"))[2][0]
        rack.members[0].serial = "192.168.1.7:5555"
        after = (await talker.ask("list"))[2][0]
        assert after["serial"] == "192.168.1.7:5555"
        assert after["onlySerial"] == before["onlySerial"]

    async def test_a_phone_without_adb_is_called_by_its_own_serial(self, talker: Talker, rack: Rack) -> None:
        rack.members[1].serial, rack.members[1].mode = None, 3
        entry = (await talker.ask("list"))[2][1]
        assert (entry["mode"], entry["serial"]) == (3, rack.members[1].only_serial)

    @pytest.mark.parametrize("action", ["list", "LIST", "List"])
    async def test_the_action_s_case_does_not_matter(self, talker: Talker, action: str) -> None:
        assert (await talker.ask(action))[0] == DONE


class TestScreen:
    async def test_the_picture_appears_in_the_folder_after_the_answer(
        self, talker: Talker, rack: Rack, tmp_path: Path
    ) -> None:
        folder = tmp_path / "shots" / "one"
        assert await talker.ask("screen", "127.0.0.1:41002", {"savePath": str(folder)}) == (DONE, "SUCCESS", None)
        assert await until(lambda: whole_pictures(folder)) == [rack.members[1].screen.png()]

    async def test_without_save_path_it_goes_to_the_tool_s_own_folder(self, talker: Talker, rack: Rack) -> None:
        await talker.ask("screen", "127.0.0.1:41001")
        assert await until(lambda: whole_pictures(rack.data_dir)) == [rack.members[0].screen.png()]

    async def test_all_phones_at_once_leave_a_picture_each(self, talker: Talker, rack: Rack, tmp_path: Path) -> None:
        await talker.ask("screen", "all", {"savePath": str(tmp_path / "all")})
        await until(lambda: len(whole_pictures(tmp_path / "all")) == len(rack.members))

    async def test_a_folder_that_cannot_be_made_is_refused(self, talker: Talker, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("in the way")
        code, message, _ = await talker.ask("screen", "127.0.0.1:41001", {"savePath": str(tmp_path / "file" / "x")})
        assert (code, message) == (FAILED, "保存路径无效")


class TestChoosingPhones:
    async def test_several_serials_are_joined_by_commas(self, talker: Talker, rack: Rack) -> None:
        code, _, data = await talker.ask(
            "adb", "127.0.0.1:41001,127.0.0.1:41003", {"command": "adb shell getprop ro.product.model"}
        )
        assert code == DONE
        assert data == {"127.0.0.1:41001": "SM-S911N\n", "127.0.0.1:41003": "SM-S911N\n"}
        assert not rack.members[1].commands

    @pytest.mark.parametrize(
        ("devices", "message"), [("nobody", "设备不存在"), ("127.0.0.1:41001,nobody", "设备不存在"), (None, "缺少参数")]
    )
    async def test_a_name_that_no_phone_has_fails_the_request(
        self, talker: Talker, devices: str | None, message: str
    ) -> None:
        assert await talker.ask("pushEvent", devices, {"type": "2"}) == (FAILED, message, None)

    async def test_an_offline_phone_is_refused_by_name_and_left_out_of_all(self, talker: Talker, rack: Rack) -> None:
        rack.members[0].status = "offline"
        assert (await talker.ask("adb_shell", "127.0.0.1:41001", {"command": "true"}))[1] == "设备不在线"
        code, _, data = await talker.ask("adb", "all", {"command": "adb shell getprop ro.product.model"})
        assert (code, set(data)) == (DONE, {"127.0.0.1:41002", "127.0.0.1:41003"})

    async def test_adb_is_refused_for_a_phone_without_it(self, talker: Talker, rack: Rack) -> None:
        phone = rack.members[0]
        phone.serial, phone.mode = None, 3
        assert (await talker.ask("adb_shell", phone.only_serial, {"command": "true"}))[1] == "该设备未开启ADB"
        assert (await talker.ask("pushEvent", phone.only_serial, {"type": "2"}))[0] == DONE


class TestCommandsAndApps:
    async def test_adb_shell_answers_nothing(self, talker: Talker, rack: Rack) -> None:
        assert await talker.ask("adb_shell", "127.0.0.1:41001", {"command": "getprop x"}) == (DONE, "SUCCESS", None)
        assert rack.members[0].commands == ["getprop x"]

    @pytest.mark.parametrize("command", ["getprop x", "adb", "adb shell", "adb shell ", "adb -s x", "adb pull /x"])
    async def test_a_line_that_is_no_adb_shell_is_a_bad_parameter(self, talker: Talker, command: str) -> None:
        assert (await talker.ask("adb", "127.0.0.1:41001", {"command": command}))[:2] == (FAILED, "参数错误")

    async def test_a_serial_in_the_adb_line_is_passed_over(self, talker: Talker, rack: Rack) -> None:
        await talker.ask("adb", "127.0.0.1:41001", {"command": "adb -s whatever shell getprop ro.product.model"})
        assert rack.members[0].commands == ["getprop ro.product.model"]

    async def test_apps_start_stop_install_and_uninstall(self, talker: Talker, rack: Rack, tmp_path: Path) -> None:
        screen = rack.members[0].screen
        assert (await talker.ask("startApk", "127.0.0.1:41001", {"apk": "com.example.app"}))[0] == DONE
        assert screen.current_focus() == "com.example.app/.SignInActivity"
        assert (await talker.ask("stopApk", "127.0.0.1:41001", {"apk": "com.example.app"}))[0] == DONE
        assert screen.current_focus() == "com.android.launcher3/.Launcher"
        (tmp_path / "new app.apk").write_bytes(b"PK")
        path = str(tmp_path / "new app.apk")
        assert (await talker.ask("installApk", "127.0.0.1:41001", {"filePath": path}))[0] == DONE
        assert "com.example.installed" in screen.packages()
        assert (await talker.ask("uninstallApk", "127.0.0.1:41001", {"apk": "com.example.installed"}))[0] == DONE
        assert "com.example.installed" not in screen.packages()

    async def test_an_app_that_is_not_there_fails(self, talker: Talker) -> None:
        assert (await talker.ask("startApk", "127.0.0.1:41001", {"apk": "com.nowhere"}))[:2] == (FAILED, "执行失败")
        assert (await talker.ask("installApk", "127.0.0.1:41001", {"filePath": "/no/such.apk"}))[1] == "文件不存在"

    async def test_a_package_name_cannot_add_a_command(self, talker: Talker, rack: Rack) -> None:
        await talker.ask("stopApk", "127.0.0.1:41001", {"apk": "x; reboot"})
        assert rack.members[0].commands == ["am force-stop 'x; reboot'"]

    async def test_without_data_the_tool_says_success_and_does_nothing(self, talker: Talker, rack: Rack) -> None:
        for action in ("startApk", "stopApk", "installApk", "uninstallApk", "uploadFile"):
            assert (await talker.ask(action, "127.0.0.1:41001"))[0] == DONE
        assert not rack.members[0].commands

    async def test_the_list_of_apps_comes_by_phone(self, talker: Talker) -> None:
        _, _, data = await talker.ask("apkList", "127.0.0.1:41001")
        assert data == {"127.0.0.1:41001": ["com.example.app", "com.google.android.youtube"]}


class TestTouchAndText:
    async def test_down_and_up_in_percent_are_a_tap(self, talker: Talker, rack: Rack) -> None:
        screen = rack.members[0].screen
        screen.start(None, "com.android.settings", None, None)
        for kind in ("0", "1"):
            assert (await talker.ask("pointerEvent", "127.0.0.1:41001", {"type": kind, "x": "50", "y": "16"}))[
                0
            ] == DONE
        assert screen.current_focus() == "com.android.settings/.SubSettings"

    async def test_an_up_without_a_down_does_nothing(self, talker: Talker, rack: Rack) -> None:
        before = rack.members[0].screen.dump()
        assert (await talker.ask("pointerEvent", "127.0.0.1:41001", {"type": "1", "x": "50", "y": "30"}))[0] == DONE
        assert rack.members[0].screen.dump() == before

    @pytest.mark.parametrize(("there", "back"), [("6", "7"), ("5", "4")])
    async def test_swipes_and_wheels_scroll(self, talker: Talker, rack: Rack, there: str, back: str) -> None:
        screen = rack.members[0].screen
        screen.resize(360, 400, 160)
        screen.start(None, "com.android.settings", None, None)
        top = screen.dump()
        await talker.ask("pointerEvent", "127.0.0.1:41001", {"type": there, "x": "50", "y": "50"})
        assert screen.dump() != top
        for _ in range(3):
            await talker.ask("pointerEvent", "127.0.0.1:41001", {"type": back, "x": "50", "y": "50"})
        assert screen.dump() == top

    @pytest.mark.parametrize(
        "data",
        [{"type": "3", "x": "1", "y": "1"}, {"type": "0", "x": "-1", "y": "1"}, {"type": "0", "x": "x", "y": "1"}, {}],
    )
    async def test_a_bad_pointer_is_refused(self, talker: Talker, data: dict[str, str]) -> None:
        assert (await talker.ask("pointerEvent", "127.0.0.1:41001", data))[0] == FAILED

    @pytest.mark.parametrize(
        ("kind", "focus"),
        [
            ("1", "com.android.launcher3/.RecentsActivity"),
            ("2", "com.android.launcher3/.Launcher"),
            ("3", "com.android.settings/.Settings"),
        ],
    )
    async def test_the_three_keys(self, talker: Talker, rack: Rack, kind: str, focus: str) -> None:
        screen = rack.members[0].screen
        screen.start(None, "com.android.settings", None, None)
        screen.start("android.settings.DISPLAY_SETTINGS", None, None, None)
        await talker.ask("pushEvent", "127.0.0.1:41001", {"type": kind})
        assert screen.current_focus() == focus

    async def test_text_needs_the_tool_s_own_keyboard(self, talker: Talker, rack: Rack) -> None:
        screen = rack.members[0].screen
        screen.start(None, "com.example.app", None, None)
        assert (await talker.ask("inputText", "127.0.0.1:41001", {"content": "가나"}))[:2] == (
            FAILED,
            "请先切换到效卫输入法",
        )
        _, _, listed = await talker.ask("imeList", "127.0.0.1:41001")
        assert OWN_KEYBOARD in listed["127.0.0.1:41001"]
        assert (await talker.ask("installInputIme", "127.0.0.1:41001"))[0] == DONE
        assert (await talker.ask("selectIme", "127.0.0.1:41001", {"ime": OWN_KEYBOARD}))[0] == DONE
        assert (await talker.ask("inputText", "127.0.0.1:41001", {"content": "가나"}))[0] == DONE
        assert 'text="가나"' in screen.dump()

    async def test_the_clipboard_keeps_what_was_written(self, talker: Talker) -> None:
        assert (await talker.ask("writeClipBoard", "127.0.0.1:41001", {"content": "剪贴板"}))[0] == DONE
        assert (await talker.ask("getClipboard", "127.0.0.1:41001"))[2] == {"127.0.0.1:41001": "剪贴板"}


class TestFiles:
    async def test_a_file_goes_to_the_phone_and_back(self, talker: Talker, rack: Rack, tmp_path: Path) -> None:
        (tmp_path / "cat.png").write_bytes(b"meow")
        data = {"filePath": str(tmp_path / "cat.png"), "isMedia": "1"}
        assert (await talker.ask("uploadFile", "127.0.0.1:41001", data))[0] == DONE
        assert rack.members[0].files["/sdcard/DCIM/cat.png"] == b"meow"
        data = {"filePath": "/sdcard/DCIM/cat.png", "savePath": str(tmp_path / "back")}
        assert (await talker.ask("pullFile", "127.0.0.1:41001", data))[0] == DONE
        assert [path.read_bytes() for path in (tmp_path / "back").iterdir()] == [b"meow"]

    async def test_pulled_files_go_to_the_tool_s_own_folder_by_default(self, talker: Talker, rack: Rack) -> None:
        assert (await talker.ask("pullFile", "127.0.0.1:41001", {"filePath": "/sdcard/a.txt"}))[0] == DONE
        assert [path.read_bytes() for path in rack.data_dir.rglob("*a.txt")] == [b"hello"]

    async def test_a_missing_file_is_told(self, talker: Talker) -> None:
        assert (await talker.ask("pullFile", "127.0.0.1:41001", {"filePath": "/sdcard/none"}))[1] == "文件不存在"


class TestTheToolsOwnBook:
    async def test_names_and_order_stay_with_the_phone(self, talker: Talker, rack: Rack) -> None:
        await talker.ask("updateDevices", "127.0.0.1:41001", {"name": "왼쪽 위", "sort": 9})
        rack.members[0].serial = "192.168.1.7:5555"
        entry = (await talker.ask("list"))[2][0]
        assert (entry["name"], entry["sort"]) == ("왼쪽 위", 9)

    async def test_groups_from_making_to_removing(self, talker: Talker) -> None:
        assert (await talker.ask("addTag", data={"name": "shelf"}))[0] == DONE
        assert (await talker.ask("addTag", data={"name": "shelf"}))[0] == FAILED
        assert (await talker.ask("addTagDevice", "127.0.0.1:41001,127.0.0.1:41002", {"name": "shelf"}))[0] == DONE
        assert (await talker.ask("updateTag", data={"oldName": "shelf", "name": "rack"}))[0] == DONE
        assert (await talker.ask("removeTagDevice", "127.0.0.1:41001", {"name": "rack"}))[0] == DONE
        assert (await talker.ask("getTags"))[2] == [{"name": "rack", "devices": ["127.0.0.1:41002"]}]
        assert (await talker.ask("removeTag", data={"name": "rack"}))[0] == DONE
        assert (await talker.ask("getTags"))[2] == []
        assert (await talker.ask("removeTag", data={"name": "rack"}))[0] == FAILED

    async def test_scripts_are_listed_until_they_are_removed(self, talker: Talker, tmp_path: Path) -> None:
        script = tmp_path / "task.js"
        script.write_text("toast('hi')")
        entry = {"path": str(script), "count": 2, "taskInterval": [1000, 3000], "deviceInterval": "500"}
        assert (await talker.ask("autojsCreate", "all", [entry]))[0] == DONE
        listed = (await talker.ask("autojsTasks", "127.0.0.1:41002"))[2]
        assert [(task["name"], task["count"], task["serial"]) for task in listed] == [
            (str(script), 2, "127.0.0.1:41002")
        ]
        assert (await talker.ask("autojsRemove", "127.0.0.1:41002", {"name": str(script)}))[0] == DONE
        assert (await talker.ask("autojsTasks", "127.0.0.1:41002"))[2] == []
        assert len((await talker.ask("autojsTasks", "all"))[2]) == 2

    async def test_recorded_actions_are_listed_until_they_are_removed(self, talker: Talker) -> None:
        assert (await talker.ask("actionCreate", "127.0.0.1:41001", [{"actionName": "wave"}]))[0] == DONE
        assert [task["name"] for task in (await talker.ask("actionTasks", "all"))[2]] == ["wave"]
        assert (await talker.ask("actionRemove", "all", {"name": "wave"}))[0] == DONE
        assert (await talker.ask("actionTasks", "all"))[2] == []

    @pytest.mark.parametrize("data", [None, [], {}, [1], [{"path": ""}], [{"path": "x", "count": "many"}]])
    async def test_a_bad_script_entry_is_refused(self, talker: Talker, data: object) -> None:
        assert (await talker.ask("autojsCreate", "127.0.0.1:41001", data))[0] == FAILED

    async def test_a_script_that_is_not_on_the_pc_is_refused(self, talker: Talker) -> None:
        assert (await talker.ask("autojsCreate", "127.0.0.1:41001", [{"path": "/no/such.js"}]))[1] == "文件不存在"


async def test_an_unknown_action_is_refused(talker: Talker) -> None:
    assert await talker.ask("makeTea") == (FAILED, "无效的action", None)


async def test_the_tool_serves_several_connections_at_once(server: VendorServer, talker: Talker, rack: Rack) -> None:
    rack.members[0].hangs = True
    stuck = asyncio.create_task(talker.ask("adb_shell", "127.0.0.1:41001", {"command": "sleep"}))
    await rack.members[0].asked.wait()
    async with connect(f"ws://127.0.0.1:{server.port}/", proxy=None) as other:
        assert (await Talker(other).ask("list"))[0] == DONE
    stuck.cancel()
