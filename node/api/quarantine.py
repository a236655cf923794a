"""Files that could not be read, and what an administrator decides about them (scope `admin`)."""

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, StringConstraints

from node.api.auth import Caller
from node.intake.quarantine import Quarantine, shown

Require = Callable[[str], Callable[..., Caller]]
SubmissionId = Annotated[str, Path(pattern="^[0-9a-f]{32}$")]
Number = Annotated[int, Path(ge=0, le=100_000)]


class Sending(BaseModel):
    """Who decides that a file is sent as it is."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    person: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    same_person: bool = False  # it is of the patient of its study, whom it names otherwise


def router(quarantine: Quarantine, require: Require) -> APIRouter:
    """Return the routes of `/api/v1/admin/quarantine`."""
    routes = APIRouter(
        prefix="/api/v1/admin/quarantine", tags=["admin"], dependencies=[Depends(require("admin"))]
    )

    @routes.get("")
    def held() -> dict[str, list[dict[str, Any]]]:
        """List the files of this node that could not be read and wait for a person."""
        return {"files": [shown(one) for one in quarantine.held()]}

    @routes.get("/{submission_id}/{number}")
    def take_out(submission_id: SubmissionId, number: Number) -> StreamingResponse:
        """Give the bytes of a file out; a DICOM file with its preamble zeroed."""
        return StreamingResponse(
            quarantine.take_out(submission_id, number),
            media_type="application/octet-stream",
            headers={
                "Content-Disposition": 'attachment; filename="quarantined"',
                "Cache-Control": "no-store",
            },
        )

    @routes.post("/{submission_id}/{number}/send", status_code=201)
    def send(submission_id: SubmissionId, number: Number, body: Sending) -> dict[str, str]:
        """Send a file as it is, as an entry of its own."""
        entry = quarantine.send(submission_id, number, body.person, same_person=body.same_person)
        return {"entry_id": entry.hex()}

    @routes.delete("/{submission_id}/{number}", status_code=204)
    def remove(submission_id: SubmissionId, number: Number) -> Response:
        """Give a file up and erase it."""
        quarantine.remove(submission_id, number)
        return Response(status_code=204)

    return routes
