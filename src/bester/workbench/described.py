"""What an attach message says of the type that is checked (docs/protocol.md, section 6.9)."""

from __future__ import annotations

from functools import cached_property

from msgspec import Raw

from bester.errors import BadArguments
from bester.protocol.descriptions import SCHEMAS, Description, place, read_descriptions
from bester.protocol.messages import AttachData
from bester.protocol.values import encode_data
from bester.schemas.validator import BadSchema, Validator, can_validate
from bester.workbench.contract import Failed
from bester.workbench.transcript import shown


class Described:
    """The descriptions of one attach message, judged as a server judges them.

    Args:
        data: of the attach message.
        type: the type whose description is wanted.
    """

    def __init__(self, data: AttachData, type: str) -> None:
        self._type = type
        self._found: dict[str, Description] = {}
        self.fault = ""
        """Why a server refuses the descriptions; ``""`` if it doesn't."""
        try:
            self._found = read_descriptions(data.describe, data.types)
        except BadArguments as error:
            self.fault = error.message

    @property
    def nothing(self) -> bool:
        """Whether no type is described."""
        return not self._found

    @property
    def description(self) -> Description | None:
        """The description of the type, if it has one of the right form."""
        return self._found.get(self._type)

    @cached_property
    def samples(self) -> list[bytes]:
        """The samples of the type, as JSON."""
        return [bytes(encode_data(one)) for one in self.description.samples] if self.description is not None else []

    def check(self) -> None:
        """Judges all descriptions.

        Raises:
            Failed: a server refuses them.
        """
        if self.fault:
            raise Failed(self.fault)
        for type, description in self._found.items():
            for name in SCHEMAS:
                self._validator(description, name, place("describe", [type, name]))

    def refusal(self, name: str, data: bytes) -> str:
        """Returns why data does not fit the schema ``name``; ``""`` if it does, or there is no such schema."""
        validator = self._validators.get(name)
        refused = validator(Raw(data)) if validator is not None else None
        return refused.message if refused is not None else ""

    def knows(self, name: str) -> bool:
        """Whether there is a schema ``name`` by which data can be judged."""
        return name in self._validators

    def check_replies(self, replies: list[bytes], names: tuple[str, ...]) -> None:
        """Judges the data of replies by the first of the schemas that there is.

        Raises:
            Failed: a reply fits none of the schemas.
        """
        known = [name for name in names if self.knows(name)]
        for data in replies if names[0] in known else ():
            refusals = [self.refusal(name, data) for name in known]
            if all(refusals):
                raise Failed(f"a reply does not fit the schema {' or '.join(known)}: {refusals[0]}: {shown(data)}")

    @cached_property
    def _validators(self) -> dict[str, Validator]:
        if self.description is None:
            return {}
        made = {name: self._validator(self.description, name, name) for name in SCHEMAS}
        return {name: validator for name, validator in made.items() if validator is not None}

    def _validator(self, description: Description, name: str, where: str) -> Validator | None:
        schema = getattr(description, name)
        if schema is None or not can_validate():
            return None
        try:
            return Validator(schema, where)
        except BadSchema as error:
            raise Failed(str(error)) from error
