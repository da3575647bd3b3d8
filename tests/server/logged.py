"""The log's settings, which a test may change and the others are not to notice."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from bester.server.telemetry.logs import LOGGERS


@contextmanager
def as_before() -> Iterator[None]:
    """Sets the loggers back at the end."""
    loggers = [logging.getLogger(name) for name in LOGGERS]
    before = [(logger.handlers[:], logger.level, logger.propagate) for logger in loggers]
    try:
        yield
    finally:
        for logger, (handlers, level, propagate) in zip(loggers, before, strict=True):
            logger.handlers[:], logger.propagate = handlers, propagate
            logger.setLevel(level)
