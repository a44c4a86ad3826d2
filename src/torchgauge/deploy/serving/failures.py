"""What a request can fail for, each with its HTTP status and a word for programs."""

from __future__ import annotations


class RequestFailure(Exception):
    """A request that is answered with an error; the server goes on."""

    status = 400
    code = "bad_request"
    closes = False
    """Whether the connection ends with the answer: the rest of the body is not wanted."""
    retry_after_seconds: int | None = None

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class BadBody(RequestFailure):
    """No JSON object with the inputs."""


class BadInput(RequestFailure):
    """A tensor of the wrong name, shape, dtype or with forbidden values."""

    status = 422
    code = "bad_input"


class RejectedByModel(RequestFailure):
    """The program raised on inputs that the signature allows."""

    status = 422
    code = "rejected_by_model"


class NotFound(RequestFailure):
    """No such path."""

    status = 404
    code = "not_found"


class MethodNotAllowed(RequestFailure):
    """A path that is asked in another way."""

    status = 405
    code = "method_not_allowed"


class BodyTimeout(RequestFailure):
    """The body did not come in time."""

    status = 408
    code = "body_timeout"
    closes = True


class BodyTooLarge(RequestFailure):
    """The body is larger than the limit."""

    status = 413
    code = "body_too_large"
    closes = True


class WrongMediaType(RequestFailure):
    """Another content type than JSON."""

    status = 415
    code = "wrong_media_type"
    closes = True


class Busy(RequestFailure):
    """More at once than there is room for: the queue, the connections, or the bodies in memory."""

    status = 429
    code = "busy"
    closes = True
    retry_after_seconds = 1


class InternalFailure(RequestFailure):
    """A bug of the server's."""

    status = 500
    code = "internal"


class OutOfMemory(RequestFailure):
    """The batch did not get the memory it needed."""

    status = 503
    code = "out_of_memory"
    retry_after_seconds = 1


class Stopping(RequestFailure):
    """The server is going down, or its model is not there any more."""

    status = 503
    code = "stopping"
    closes = True
    retry_after_seconds = 5


class Expired(RequestFailure):
    """The model did not get to it in time."""

    status = 504
    code = "timeout"
