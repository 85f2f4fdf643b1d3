"""`/api/devices`: phones, Online or Offline (R8.1)."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from muster.backend.api.access import ActorDep, PartsDep
from muster.backend.api.bodies import StrictRoute
from muster.backend.api.problems import answer_refusal, documented
from muster.backend.api.runs import Cursor, Limit
from muster.backend.cursors import decode_cursor, encode_cursor
from muster.backend.refusal import ProblemSlug, Refusal
from muster.contracts.api import DeviceActionAccepted, DeviceActionRequest, DeviceDetail, DevicePage
from muster.contracts.base import NodeIdField
from muster.domain.limits import PAGE_SIZE_DEFAULT

router = APIRouter(prefix="/api/devices", tags=["devices"], route_class=StrictRoute)


@router.get("", summary="List phones, by node and id", responses=documented(ProblemSlug.INVALID_FIELD))
async def list_devices(
    parts: PartsDep,
    node_id: Annotated[NodeIdField | None, Query()] = None,
    online_only: bool = False,
    cursor: Cursor = None,
    limit: Limit = PAGE_SIZE_DEFAULT,
) -> DevicePage:
    """`counts` is of all phones of the node (or of all nodes), whichever page is shown."""
    after = tuple(decode_cursor(cursor, str, str)) if cursor else ("", "")
    of_node = [device for device in parts.presence.known_devices() if node_id in (None, device.node_id)]
    online = {device.device_id for device in of_node if parts.presence.is_device_online(device)}
    rest = [
        device
        for device in of_node
        if (device.node_id, device.device_id) > after and (not online_only or device.device_id in online)
    ]
    shown = rest[:limit]
    return DevicePage(
        devices=[parts.presence.device_view(device) for device in shown],
        counts={"online": len(online), "offline": len(of_node) - len(online)},
        next_cursor=encode_cursor(shown[-1].node_id, shown[-1].device_id) if len(rest) > limit else None,
    )


@router.get(
    "/{device_id:path}",
    response_model=DeviceDetail,
    summary="A phone",
    responses=documented(ProblemSlug.NOT_FOUND, ProblemSlug.UNAVAILABLE),
)
async def read_device(device_id: str, parts: PartsDep) -> DeviceDetail | Response:
    """By its `device_id`, whatever characters the vendor's tool put into it; with what was last done to it."""
    device = parts.presence.device(device_id)
    if device is None:
        return _unknown(device_id)
    actions = await parts.device_actions.last(device_id)
    return DeviceDetail(**parts.presence.device_view(device).model_dump(), actions=actions)


@router.post(
    "/{device_id:path}/actions",
    status_code=202,
    response_model=DeviceActionAccepted,
    summary="Reboot, reconnect, quarantine or release a phone",
    responses=documented(ProblemSlug.MALFORMED_JSON, ProblemSlug.NOT_FOUND, ProblemSlug.INVALID_FIELD),
)
async def request_action(
    device_id: str, body: DeviceActionRequest, parts: PartsDep, actor: ActorDep
) -> DeviceActionAccepted | Response:
    """A command to the phone's node, audited; one that the node does not fetch within 10 minutes is dropped."""
    return await parts.device_actions.request(device_id, body, actor) or _unknown(device_id)


def _unknown(device_id: str) -> Response:
    return answer_refusal(Refusal(ProblemSlug.NOT_FOUND, f"no device {device_id[:128]} was ever seen"))
