"""The errors of JetStream, with the numbers and texts of a real server."""

from __future__ import annotations

from typing import Any

BAD_REQUEST = 10003
NO_PEERS = 10005
NOT_AVAILABLE = 10008
NO_CONSUMER = 10014
NO_ROOM = 10023
INVALID_JSON = 10025
NO_MESSAGE = 10037
NO_SEQUENCE = 10043
OTHER_NAME = 10056
NAME_IN_USE = 10058
NO_STREAM = 10059
OTHER_STREAM = 10060
OVERLAP = 10065
WRONG_LAST_ID = 10070
WRONG_LAST_SEQUENCE = 10071
NOT_CLUSTERED = 10074
STORE_FAILED = 10077
IN_PROCESS = 10164
INVALID_TTL = 10165
NO_TTL = 10166
NO_BATCHES = 10174
BATCH_WITHOUT_SEQUENCE = 10175
BATCH_INCOMPLETE = 10176
BATCH_ID = 10179
BATCH_TOO_LARGE = 10199
BATCH_COMMIT = 10200
BATCH_DUPLICATE = 10201

_TEXTS: dict[int, tuple[int, str]] = {
    BAD_REQUEST: (400, "bad request"),
    NO_PEERS: (400, "no suitable peers for placement"),
    NOT_AVAILABLE: (503, "JetStream system temporarily unavailable"),
    NO_CONSUMER: (404, "consumer not found"),
    NO_ROOM: (503, "insufficient resources"),
    INVALID_JSON: (400, "invalid JSON"),
    NO_MESSAGE: (404, "no message found"),
    NO_SEQUENCE: (400, "sequence {} not found"),
    OTHER_NAME: (400, "stream name in subject does not match request"),
    NAME_IN_USE: (400, "stream name already in use with a different configuration"),
    NO_STREAM: (404, "stream not found"),
    OTHER_STREAM: (400, "expected stream does not match"),
    OVERLAP: (400, "subjects overlap with an existing stream"),
    WRONG_LAST_ID: (400, "wrong last msg ID: {}"),
    WRONG_LAST_SEQUENCE: (400, "wrong last sequence: {}"),
    NOT_CLUSTERED: (500, "replicas > 1 not supported in non-clustered mode"),
    STORE_FAILED: (503, "{}"),
    IN_PROCESS: (400, "wrong last sequence"),
    INVALID_TTL: (400, "invalid per-message TTL"),
    NO_TTL: (400, "per-message TTL is disabled"),
    NO_BATCHES: (400, "atomic publish is disabled"),
    BATCH_WITHOUT_SEQUENCE: (400, "atomic publish sequence is missing"),
    BATCH_INCOMPLETE: (400, "atomic publish batch is incomplete"),
    BATCH_ID: (400, "atomic publish batch ID is invalid"),
    BATCH_TOO_LARGE: (400, "atomic publish batch is too large: {}"),
    BATCH_COMMIT: (400, "atomic publish batch commit is invalid"),
    BATCH_DUPLICATE: (400, "atomic publish batch contains duplicate message id"),
}


class Refused(Exception):
    """JetStream refuses a request.

    Args:
        number: the error's, one of this module's.
        about: the variable part of its text.
    """

    def __init__(self, number: int, about: object = "") -> None:
        code, text = _TEXTS[number]
        super().__init__(text.format(about))
        self.code = code
        self.number = number

    def as_json(self) -> dict[str, Any]:
        """Returns the member ``error`` of an answer."""
        return {"code": self.code, "err_code": self.number, "description": str(self)}
