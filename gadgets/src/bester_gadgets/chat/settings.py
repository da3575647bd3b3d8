"""The settings of chat (docs/chat.md, section 6)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel

from bester_gadgets.settings import Settings


class ChatSettings(Settings):
    """The settings of the operator; keys are spelled in camelCase in the file."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)

    database: Path = Path("chat.db")
    keep_days: Annotated[int, Field(ge=1, le=36_500)] = 365
    """Older messages are removed."""
    keep_messages: Annotated[int, Field(ge=100, le=10_000_000)] = 100_000
    """Of one account; beyond them the oldest are removed."""
    max_conversations: Annotated[int, Field(ge=1, le=1000)] = 500
    """Of one account, rooms included."""
    max_rooms: Annotated[int, Field(ge=0, le=1000)] = 20
    """That one account may have made."""
    max_members: Annotated[int, Field(ge=2, le=1024)] = 256
    """Of one room."""
    max_blocked: Annotated[int, Field(ge=1, le=1000)] = 500
    """Of one account."""
    max_waiting: Annotated[int, Field(ge=100, le=1_000_000)] = 20_000
    """Messages that one other server has not confirmed; beyond them new ones for it are refused."""
    retry_s: Annotated[float, Field(ge=0.05, le=3600)] = 15.0
    """How often it is looked for what has to be sent again; another server has twice that to confirm."""
    give_up_days: Annotated[int, Field(ge=1, le=28)] = 14
    """An item that another server has not confirmed for so long has failed."""
