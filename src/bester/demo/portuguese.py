"""Translates Portuguese, and lets the English handler decide where the message goes."""

from bester import Handler, Request, SendHandler
from bester.demo.events import send_event
from bester.demo.phrases import PORTUGUESE

handler = Handler()


@handler.on("portuguese")
def translate(message: Request) -> SendHandler:
    """Sends the English text to the English handler."""
    text = PORTUGUESE.to_english(message.data["text"])
    send_event(message, "sendHandler english", text)
    return SendHandler("english", {"to": message.data["to"], "text": text})


if __name__ == "__main__":
    handler.run()
