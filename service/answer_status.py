"""Status of an answer, seen by middleware on its way to the client."""

from http import HTTPStatus

from starlette.types import Message, Send


class AnswerStatus:
    """`Send` of an ASGI application that notes the status of its answer.

    `status` is 500 until an answer starts: that is what an exception in the application becomes.
    """

    def __init__(self, send: Send) -> None:
        self.status = HTTPStatus.INTERNAL_SERVER_ERROR.value
        self._send = send

    async def __call__(self, message: Message) -> None:
        """Note the status of a message that starts the answer, and send the message."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
        await self._send(message)
