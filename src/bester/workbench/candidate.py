"""A candidate: a handler that is asked recorded requests, to see what it would answer (docs/replay.md).

It is started as for ``bester handler check``: the workbench plays its server. It is asked in dry runs, so that it does
nothing but answer.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from bester.protocol.frames import encode_text
from bester.protocol.messages import HandlerMessage
from bester.protocol.outcomes import Outcome, outcome_of, verdict_of
from bester.protocol.values import decode_data
from bester.workbench.attached import AttachedBench
from bester.workbench.bench import Bench
from bester.workbench.classic import ClassicBench
from bester.workbench.contract import Failed, Form, Gone, Late, Options
from bester.workbench.recording import Asked
from bester.workbench.runner import Target, detect

MAX_FILES = 5000
"""How many files of the working folder are watched."""
MAX_NAMED = 3
_PASSED_OVER = ("node_modules",)


class Unfit(Exception):
    """An error for a candidate that cannot be asked; ``str(error)`` says why, and what to do."""


class Candidate:
    """A handler that is asked; :meth:`open` it first, and :meth:`close` it in any case.

    Args:
        target: the handler.
        form: its form; None detects it.
        type: the type that was recorded.
        timeout_s: the time limit for an answer.
        reattach_s: the time limit for it to start.
        really: whether it is asked really, and does what it does.
    """

    def __init__(
        self, target: Target, form: Form | None, type: str, timeout_s: float, reattach_s: float, *, really: bool
    ) -> None:
        self.target = target
        self.type = type
        self.really = really
        self._form = form
        self._options = Options(type=type, timeout_s=timeout_s, reattach_s=reattach_s)
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._bench: Bench | None = None
        self._files: dict[str, tuple[int, int]] = {}

    async def open(self) -> None:
        """Starts the handler, and returns when it can be asked.

        Raises:
            Unfit: it cannot be started, or not be asked in dry runs.
        """
        try:
            form = self._form or await detect(self.target, self._options)
            if form is Form.CLASSIC and not self.really:
                raise Unfit(
                    f"{self.target.name} is a classic handler, and takes part in no dry runs: asked these requests, it "
                    "would do its work once more; with --really it is asked all the same"
                )
            self._folder = tempfile.TemporaryDirectory(prefix="bester-")
            folder = Path(self._folder.name)
            if form is Form.CLASSIC:
                bench: Bench = ClassicBench(self.target.command, folder, self._options, self.target.socket)
            else:
                bench = AttachedBench(self.target.command, folder, self._options)
            self._bench = bench
            await bench.open()
            if isinstance(bench, AttachedBench):
                self._check(bench)
        except Failed as failure:
            output = self._bench.process.output() if self._bench is not None and self._bench.process is not None else []
            raise Unfit("".join((str(failure), *(f"\n{line}" for line in output)))) from failure
        except OSError as error:
            raise Unfit(f"cannot start {self.target.name}: {error.strerror or error}") from error
        self._files = _files(Path())

    def _check(self, bench: AttachedBench) -> None:
        told = bench.told
        if self.type not in told.types:
            raise Unfit(f"{self.target.name} attached for {', '.join(told.types)}; the recorded type is {self.type}")
        dry = told.types if told.dry_run is None else told.dry_run
        if not self.really and not ("dryRun" in bench.hello.header.features and self.type in dry):
            raise Unfit(
                f"{self.target.name} takes part in no dry runs of {self.type} (section 7.2 of docs/protocol.md): asked "
                "these requests, it would do its work once more; with --really it is asked all the same"
            )

    async def ask(self, request: Asked) -> Outcome:
        """Asks what was recorded, and returns the outcome."""
        bench = self._bench
        assert bench is not None
        try:
            if isinstance(bench, AttachedBench):
                dry: dict[str, object] = {} if self.really else {"dryRun": True}
                header = request.header() | dry
                answer = await bench.ask(bytes(request.data), header=header, client_id=request.id)
            else:
                answer = await bench.ask(bytes(request.data))
        except Failed as failure:
            code = "handlerTimeout" if isinstance(failure, Late) else "badResponse"
            told = await bench.explained(failure)
            return {"failed": {"code": "handlerUnavailable" if isinstance(failure, Gone) else code, "message": told}}
        return _outcome(answer.message, self.type, guards=request.guards is not None)

    def how_it_ended(self) -> str:
        """Returns how its process ended, in words; ``""`` while it runs."""
        process = self._bench.process if self._bench is not None else None
        return process.how_it_ended() if process is not None else ""

    def did(self) -> list[str]:
        """Returns signs that it did more than answer, in words."""
        signs: list[str] = []
        if self.really:
            return signs
        if isinstance(self._bench, AttachedBench) and self._bench.pushes:
            signs.append(f"it pushed commands {self._bench.pushes} times while it was asked in dry runs only")
        now = _files(Path())
        changed = [name for name in sorted({*now, *self._files}) if now.get(name) != self._files.get(name)]
        if changed:
            more = f" and {len(changed) - MAX_NAMED} more" if len(changed) > MAX_NAMED else ""
            signs.append(
                f"files of its working folder changed meanwhile, though dry runs do nothing: "
                f"{', '.join(changed[:MAX_NAMED])}{more}"
            )
        return signs

    async def close(self) -> None:
        """Ends the handler, if it was started here."""
        if self._bench is not None:
            await self._bench.close()
        if self._folder is not None:
            self._folder.cleanup()


def _outcome(message: HandlerMessage, type: str, *, guards: bool) -> Outcome:
    outcome = verdict_of(message) if guards else outcome_of(message, type)
    try:
        plain: Outcome = decode_data(encode_text(outcome))
    except ValueError as error:  # a number that Python cannot hold
        return {"failed": {"code": "badResponse", "message": str(error)}}
    return plain


def _files(folder: Path) -> dict[str, tuple[int, int]]:
    """Returns when the files below a folder were changed, and their sizes; hidden and cached ones are passed over."""
    found: dict[str, tuple[int, int]] = {}
    for where, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith((".", "__")) and name not in _PASSED_OVER]
        for name in names:
            path = os.path.normpath(os.path.join(where, name))
            try:
                state = os.stat(path)
            except OSError:
                continue
            found[path] = (state.st_mtime_ns, state.st_size)
            if len(found) >= MAX_FILES:
                return found
    return found
