"""Files as answers."""

from __future__ import annotations

from pathlib import Path

from fastapi import Request
from fastapi.responses import FileResponse, Response

from anymask.server.refusals import Refused


def send_file(request: Request, path: Path, kind: str) -> Response:
    """Send a file, or word that it is the one that the browser has; raises Refused (404) if it is gone."""
    try:
        status = path.stat()
    except OSError as error:
        raise Refused(404, f"{path.name} is gone") from error
    tag = f'"{status.st_mtime_ns:x}-{status.st_size:x}"'
    headers = {"ETag": tag, "Cache-Control": "private, no-cache"}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return FileResponse(path, media_type=kind, headers=headers, stat_result=status)
