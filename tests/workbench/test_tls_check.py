"""``bester handler check --tls``: handlers that attach as from another machine."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from bester.workbench.check import Outcome
from bester.workbench.contract import Form, Options
from bester.workbench.runner import CHECKS, Target, run
from bester.workbench.skeletons import TEMPLATES

HANDLER = TEMPLATES / "python" / "handler.py"


def test_a_handler_on_the_library_passes() -> None:
    results = asyncio.run(
        run(
            Target((sys.executable, str(HANDLER))),
            Form.ATTACHED,
            Options(tls=True, timeout_s=20, reattach_s=20),
            CHECKS[Form.ATTACHED],
            lambda _: None,
        )
    )
    assert {one.check.id for one in results if one.outcome is not Outcome.OK} == {"numbers", "opaque", "parts"}
    assert not [one.detail for one in results if one.outcome is Outcome.FAIL]


def test_a_handler_that_proves_nothing_fails(tmp_path: Path) -> None:
    path = tmp_path / "handler.py"
    path.write_text(HANDLER.read_text().replace("Handler(", "Handler(HERE, ", 1))
    text = path.read_text()
    path.write_text(
        "import os, re\nHERE = re.sub('//[^@]*@', '//check:another@', os.environ['BESTER_HANDLERS'])\n"
        + text.replace("from __future__ import annotations\n", "")
    )
    options = Options(tls=True, timeout_s=2, reattach_s=5)
    chosen = CHECKS[Form.ATTACHED][:1]
    [result] = asyncio.run(run(Target((sys.executable, str(path))), Form.ATTACHED, options, chosen, lambda _: None))
    assert result.outcome is Outcome.FAIL
    assert "header.authentication" in result.detail
