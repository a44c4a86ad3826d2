"""What a request can fail for, each with its HTTP status and a word for programs."""

from __future__ import annotations


class RequestFailure(Exception):
    """A request that is answered with an error; the server goes on.

    ``closes`` says whether the connection ends with the answer: the rest of the body is not wanted.
    """

    status = 400
    code = "bad_request"
    closes = False
    retry_after_seconds: int | None = None

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def __init_subclass__(
        cls,
        *,
        status: int = 400,
        code: str = "bad_request",
        closes: bool = False,
        retry_after_seconds: int | None = None,
    ) -> None:
        cls.status, cls.code, cls.closes = status, code, closes
        cls.retry_after_seconds = retry_after_seconds


class BadBody(RequestFailure):
    """The body is not a JSON object with the inputs."""


class BadInput(RequestFailure, status=422, code="bad_input"):
    """A tensor of the wrong name, shape, dtype or with forbidden values."""


class RejectedByModel(RequestFailure, status=422, code="rejected_by_model"):
    """The program raised on inputs that the signature allows."""


class NotFound(RequestFailure, status=404, code="not_found"):
    """No such path."""


class MethodNotAllowed(RequestFailure, status=405, code="method_not_allowed"):
    """A path that is asked in another way."""


class BodyTimeout(RequestFailure, status=408, code="body_timeout", closes=True):
    """The body did not come in time."""


class BodyTooLarge(RequestFailure, status=413, code="body_too_large", closes=True):
    """The body is larger than the limit."""


class WrongMediaType(RequestFailure, status=415, code="wrong_media_type", closes=True):
    """Another content type than JSON."""


class Busy(RequestFailure, status=429, code="busy", closes=True, retry_after_seconds=1):
    """More at once than there is room for: the queue, the connections, or the bodies in memory."""


class InternalFailure(RequestFailure, status=500, code="internal"):
    """A bug of the server's."""


class OutOfMemory(RequestFailure, status=503, code="out_of_memory", retry_after_seconds=1):
    """The batch did not get the memory it needed."""


class Stopping(RequestFailure, status=503, code="stopping", closes=True, retry_after_seconds=5):
    """The server is going down, or its model is not there any more."""


class Expired(RequestFailure, status=504, code="timeout"):
    """The model did not get to it in time."""
