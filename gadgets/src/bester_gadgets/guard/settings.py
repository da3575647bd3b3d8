"""The guard's settings (docs/guard.md)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from bester_gadgets.settings import Settings, handled_type

HandledType = Annotated[str, AfterValidator(handled_type)]
Pattern = Annotated[str, Field(min_length=1, max_length=256)]


class Rate(Settings):
    """How many messages are taken from one sender."""

    per_second: float = Field(gt=0, le=1_000_000, alias="perSecond")
    burst: int = Field(default=100, ge=1, le=1_000_000)


class Blocked(Settings):
    """Whose messages are never taken."""

    accounts: tuple[Pattern, ...] = ()
    servers: tuple[Pattern, ...] = ()
    file: Path | None = None
    silently: bool = False
    """Whether their messages are dropped, and not refused."""


class FirstContact(Settings):
    """How strangers come in."""

    type: HandledType = "firstContact"
    recipient: str | None = Field(default=None, min_length=1, max_length=256)
    """Where the data has the account that may consent; None: the operators may."""
    unproven: Literal["refuse", "hold"] = "refuse"
    """What is done with messages of servers that prove no name, which cannot be trusted."""


class GuardSettings(Settings):
    """All settings."""

    type: HandledType = "guard"
    concurrency: int = Field(default=256, ge=1, le=65_536)
    accounts: Rate | None = None
    servers: Rate | None = None
    blocked: Blocked = Blocked()
    first_contact: FirstContact | None = Field(default=None, alias="firstContact")

    @model_validator(mode="after")
    def _two_types(self) -> GuardSettings:
        if self.first_contact is not None and self.first_contact.type == self.type:
            raise ValueError("firstContact.type must be another one than type")
        return self
