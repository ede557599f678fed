"""A question that is refused: the status of HTTP, the one of gRPC, and words for whoever asked."""

from __future__ import annotations

LONGEST = 400
"""Characters of an answer that refuses; what is repeated of a question is cut."""
GRPC = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    408: "DEADLINE_EXCEEDED",
    413: "RESOURCE_EXHAUSTED",
    415: "INVALID_ARGUMENT",
    422: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    503: "UNAVAILABLE",
}


class Refused(Exception):
    """Says nothing of the machine: no folder, no trace. What it repeats is cut and can be written as UTF-8."""

    def __init__(self, status: int, cause: str, after: int | None = None) -> None:
        """after: seconds, where it is worth coming again."""
        plain = cause.encode("utf-8", "replace").decode()
        super().__init__(plain if len(plain) <= LONGEST else f"{plain[:LONGEST]} ...")
        self.status, self.after = status, after

    @property
    def grpc(self) -> str:
        """The name of gRPC's code."""
        return GRPC.get(self.status, "INTERNAL")
