"""Answers every message with its own data; the type is in BESTER_TYPE."""

from bester import Handler, Reply, Request

handler = Handler(concurrency=4096)


@handler.on()
def echo(message: Request) -> Reply:
    """Replies with the message's own data."""
    return Reply(message.raw)


if __name__ == "__main__":
    handler.run()
