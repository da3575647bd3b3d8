"""The configuration: its file, its models and its checks, which report all errors at once.

:func:`load` reads a file, :func:`parse` a text; both return a frozen :class:`Config` or raise one
:class:`ConfigError` with every :class:`Problem`. ``Config.warnings`` holds oddities that do not prevent a start.
The keys are those of docs/protocol.md, section 10; docs/configuration.md is generated from the models.
"""

from bester.config.files import check_files
from bester.config.handlers import HandlerConfig, Handlers, HandlerType
from bester.config.loading import load, parse
from bester.config.model import Config
from bester.config.network import ListenerConfig, Network
from bester.config.parts import Accounts, Admin, Control, Database, Informer, Limits, Log, Redis, Server, Storage
from bester.config.peers import Federation, Peer
from bester.config.problems import ConfigError, Problem
from bester.config.reload import changes_needing_restart, switched

__all__ = [
    "Accounts",
    "Admin",
    "Config",
    "ConfigError",
    "Control",
    "Database",
    "Federation",
    "HandlerConfig",
    "HandlerType",
    "Handlers",
    "Informer",
    "Limits",
    "ListenerConfig",
    "Log",
    "Network",
    "Peer",
    "Problem",
    "Redis",
    "Server",
    "Storage",
    "changes_needing_restart",
    "check_files",
    "load",
    "parse",
    "switched",
]
