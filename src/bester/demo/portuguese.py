"""Translates Portuguese, and leaves it to the English handler where the message goes."""

from bester import Handler, Request, SendHandler
from bester.demo.phrases import PORTUGUESE
from bester.demo.telling import tell

handler = Handler()


@handler.on("portuguese")
def translate(message: Request) -> SendHandler:
    """Hands the English to the handler of English."""
    text = PORTUGUESE.to_english(message.data["text"])
    tell(message, "sendHandler english", text)
    return SendHandler("english", {"to": message.data["to"], "text": text})


if __name__ == "__main__":
    handler.run()
