"""The rack's control API on loopback: look at phones, read what they were asked to do, change them while they run."""

import asyncio
import contextlib
import json
import socket
from typing import TYPE_CHECKING, Any, Final

import uvicorn
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from muster.sim.characters import Accident, SignIn
from muster.sim.conduct import set_accident
from muster.sim.display import Screen
from muster.sim.phone import Phone
from muster.sim.screen import DialogKind
from muster.sim.states import PhoneState, authorize, set_state, state_of

if TYPE_CHECKING:
    from muster.sim.rack import Rack

BODY_BYTES_MAX: Final = 16 * 1024
LOOPBACK: Final = "127.0.0.1"
STOP_TIMEOUT_SEC: Final = 5


class PhoneChange(BaseModel):
    """What can be set on a phone; what is left out stays."""

    model_config = ConfigDict(extra="forbid")

    state: PhoneState | None = None
    battery: int | None = Field(default=None, ge=0, le=100)
    temperature: float | None = Field(default=None, ge=-40, le=120, description="degrees")
    powered: bool | None = None
    properties: dict[str, str] = Field(default_factory=dict, max_length=100)
    free_bytes: int | None = Field(default=None, ge=0, le=4 * 1024**3)
    asleep: bool | None = None
    dialog: DialogKind | None = None
    sign_in: SignIn | None = None
    accident: Accident | None = None


class ControlServer:
    """uvicorn on a loopback socket; it changes nothing about this process's signals."""

    def __init__(self, rack: "Rack", port: int) -> None:
        self._socket = socket.create_server((LOOPBACK, port))
        self.url = f"http://{LOOPBACK}:{self._socket.getsockname()[1]}"
        config = uvicorn.Config(
            make_app(rack),
            log_config=None,
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=STOP_TIMEOUT_SEC,
        )
        self._server = _QuietServer(config)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Serves from now on."""
        self._task = asyncio.create_task(self._server.serve(sockets=[self._socket]), name="rack control")

    async def stop(self) -> None:
        """Ends within a few seconds."""
        self._server.should_exit = True
        if self._task is not None:
            await asyncio.wait([self._task])
        self._socket.close()


class _QuietServer(uvicorn.Server):
    """Signals belong to whoever runs the rack."""

    def capture_signals(self) -> Any:
        """Captures none."""
        return contextlib.nullcontext()


def make_app(rack: "Rack") -> Starlette:
    """The API. POST wants `application/json`, so that no web page of somebody else can change the rack."""
    api = _Api(rack)
    routes = [
        Route("/rack", api.rack_state),
        Route("/phones", api.list_phones),
        Route("/phones/{device_id}", api.show),
        Route("/phones/{device_id}", api.change, methods=["POST"]),
        Route("/phones/{device_id}/commands", api.commands),
        Route("/phones/{device_id}/{verb}", api.act, methods=["POST"]),
    ]
    hosts = Middleware(TrustedHostMiddleware, allowed_hosts=[LOOPBACK, "localhost"])
    return Starlette(routes=routes, middleware=[hosts], exception_handlers={HTTPException: _problem})


async def _problem(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, status_code=error.status_code)


class _Api:
    def __init__(self, rack: "Rack") -> None:
        self._rack = rack

    async def rack_state(self, _request: Request) -> Response:
        gauge = self._rack.gauge
        return JSONResponse(
            {
                "devices": len(self._rack.phones),
                "seed": self._rack.settings.seed,
                "adb_server": "{}:{}".format(*self._rack.adb_address),
                "vendor_url": self._rack.vendor_url,
                "commands": {
                    "started": gauge.started_count,
                    "running": gauge.running,
                    "most_at_once": gauge.most_at_once,
                },
            }
        )

    async def list_phones(self, _request: Request) -> Response:
        return JSONResponse({"phones": [self._describe(phone) for phone in self._rack.phones.values()]})

    async def show(self, request: Request) -> Response:
        return JSONResponse(self._describe(self._phone(request)))

    async def commands(self, request: Request) -> Response:
        phone = self._phone(request)
        after = request.query_params.get("after", "0")
        if not after.isdigit() or len(after) > 12:
            raise HTTPException(422, "after: not a number")
        records = [
            {"number": r.number, "text": r.text, "started": r.started, "ended": r.ended, "exit_status": r.exit_status}
            for r in phone.log.records(int(after))
        ]
        return JSONResponse({"now": phone.clock.monotonic(), "commands": records})

    async def change(self, request: Request) -> Response:
        phone = self._phone(request)
        change = await _read_change(request)
        phone.set_battery(level=change.battery, temperature=change.temperature, powered=change.powered)
        for name, value in change.properties.items():
            phone.properties.put(name, value)
        if change.free_bytes is not None:
            phone.files.leave_free(change.free_bytes)
        if change.accident is not None:
            set_accident(phone, change.accident)
        await phone.display.act(lambda screen: _change_screen(screen, change))
        if change.state is not None:
            await set_state(phone, change.state, self._rack)
        return JSONResponse(self._describe(phone))

    async def act(self, request: Request) -> Response:
        phone = self._phone(request)
        _require_json(request)
        match request.path_params["verb"]:
            case "kick":
                phone.adbd.kick()
            case "authorize":
                if not authorize(phone):
                    raise HTTPException(409, f"{phone.device_id} does not ask to be authorised")
            case "reboot":
                phone.start_background(phone.reboot())
            case verb:
                raise HTTPException(404, f"no action {verb!r}: kick, authorize, reboot")
        return JSONResponse(self._describe(phone))

    def _phone(self, request: Request) -> Phone:
        device_id = request.path_params["device_id"]
        phone = self._rack.phones.get(device_id)
        if phone is None:
            raise HTTPException(404, f"no phone {device_id!r}")
        return phone

    def _describe(self, phone: Phone) -> dict[str, Any]:
        model, gauge = phone.identity.model, phone.log.gauge
        width, height = phone.display.size
        return {
            "device_id": phone.device_id,
            "serial": phone.serial,
            "state": state_of(phone).value,
            "adb_state": self._rack.adb_state(phone),
            "model": model.model,
            "android": model.release,
            "width": width,
            "height": height,
            "battery": phone.battery.level,
            "temperature": phone.battery.temperature_tenths / 10,
            "link": phone.link.value,
            "character": self._rack.characters[phone.device_id].character,
            "free_bytes": phone.files.free_bytes,
            "focus": phone.display.screen.current_focus(),
            "commands": {"started": gauge.started_count, "running": gauge.running, "most_at_once": gauge.most_at_once},
        }


def _change_screen(screen: Screen, change: PhoneChange) -> None:
    if change.sign_in is not None:
        screen.set_sign_in(change.sign_in.policy)
    if change.dialog is not None:
        screen.show_dialog(change.dialog)
    if change.asleep is not None:
        (screen.sleep if change.asleep else screen.wake)()


def _require_json(request: Request) -> None:
    if request.headers.get("content-type", "").split(";")[0].strip() != "application/json":
        raise HTTPException(415, "send application/json")


async def _read_change(request: Request) -> PhoneChange:
    _require_json(request)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_BYTES_MAX:
            raise HTTPException(413, f"more than {BODY_BYTES_MAX} bytes")
    try:
        return PhoneChange.model_validate(json.loads(bytes(body) or b"{}"))
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()]
        raise HTTPException(422, "; ".join(problems)) from error
    except ValueError as error:
        raise HTTPException(400, f"not JSON: {error}") from error
