"""Each node's part of a configuration: what they share, and what only one of them can have."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from bester.config import Config, changes_needing_restart, parse
from bester.config.cluster import MAX_NODE_CHARACTERS
from bester.config.nodes import (
    Access,
    for_node,
    has_private_nats,
    name_of_node,
    nodes_folder,
    nodes_problems,
    private_cluster,
    read_access,
    write_access,
)

TREE: dict[str, Any] = {
    "network": {
        "tcp4": {"port": 2223},
        "unix": {"address": "clients"},
        "web": {"port": 8080},
    },
    "handlers": {
        "typeMap": {
            "started": {"handlerBinary": "./h", "unixDomainSocketPath": "hSock", "timeout": 5, "allow": ["t"]},
            "classic": {"unixDomainSocketPath": "cSock"},
        }
    },
}
CLUSTER = private_cluster(Access("nats://127.0.0.1:4222", "secret"))


def config(base: Path, **more: Any) -> Config:
    return parse(json.dumps(TREE | more), base)


def test_node_1_has_what_the_configuration_names(tmp_path: Path) -> None:
    whole = config(tmp_path)
    first = for_node(whole, 1, "n-1", CLUSTER, 4)
    assert first.cluster is not None
    assert (first.cluster.node, first.cluster.nats, first.cluster.token) == ("n-1", CLUSTER.nats, "secret")
    assert first.model_copy(update={"cluster": None, "siblings": ()}) == whole
    assert changes_needing_restart(first, for_node(config(tmp_path), 1, "n-1", CLUSTER, 4)) == []


def test_the_others_have_their_own_sockets_and_start_nothing(tmp_path: Path) -> None:
    third = for_node(config(tmp_path), 3, "n-3", CLUSTER, 4)
    for block in (third.control, third.informer, third.handlers):
        assert block.address.name.endswith(".3")
    assert third.storage.receipts.name == "besterReceipts.db.3"
    assert third.storage.path.name == "bester.db"
    assert [(one.kind, one.port, Path(one.address).name) for one in third.listeners()] == [
        ("unix", None, "clients.3"),
        ("tcp4", 2223, "0.0.0.0"),
    ]
    served = third.served_types()
    assert (served["started"].binary, served["started"].socket) == (None, None)
    assert (served["started"].timeout_s, served["started"].allow) == (5, ("t",))
    assert served["classic"].socket == tmp_path / "cSock"


def test_names_have_the_number_and_are_no_others(tmp_path: Path) -> None:
    name = name_of_node(config(tmp_path, cluster={"nats": ["nats://h"], "node": "x" * MAX_NODE_CHARACTERS}), 64)
    assert name.startswith("xxx")
    assert "-64-" in name
    assert len(name) <= MAX_NODE_CHARACTERS
    assert name_of_node(config(tmp_path), 2) != name_of_node(config(tmp_path), 2)


def test_what_cannot_be_shared_is_told(tmp_path: Path) -> None:
    assert list(nodes_problems(config(tmp_path), 4)) == []
    (problem,) = nodes_problems(config(tmp_path, network={"tcp4": {"port": 0}}), 4)
    assert problem.key == "network.tcp4.port"
    (problem,) = nodes_problems(config(tmp_path, network={"web": {"port": 8080}}), 4)
    assert problem.key == "network"
    long = str(tmp_path / ("s" * (106 - len(str(tmp_path)))))
    (problem,) = nodes_problems(config(tmp_path, network={"unix": {"address": long}}), 4)
    assert problem.key == "network.unix.address"


def test_how_nats_is_entered_is_for_this_user_alone(tmp_path: Path) -> None:
    whole = config(tmp_path)
    assert read_access(whole) is None
    folder = nodes_folder(whole)
    folder.mkdir()
    write_access(whole, Access("nats://127.0.0.1:1", "t"))
    write_access(whole, Access("nats://127.0.0.1:2", "t"))
    assert read_access(whole) == Access("nats://127.0.0.1:2", "t")
    assert [(path.name, stat.S_IMODE(path.stat().st_mode)) for path in folder.iterdir()] == [("access.json", 0o600)]
    (folder / "access.json").write_text("[]")
    assert read_access(whole) is None


@pytest.mark.parametrize("own", [True, False])
def test_a_private_nats_is_known_by_its_data(tmp_path: Path, own: bool) -> None:
    whole = config(tmp_path, **({} if own else {"cluster": {"nats": ["nats://h"]}}))
    assert not has_private_nats(whole)
    (nodes_folder(whole) / "jetstream").mkdir(parents=True)
    assert has_private_nats(whole) is own
