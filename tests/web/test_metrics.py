"""What monitoring asks: metrics, health, problems (docs/web.md)."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.certificates import self_signed
from tests.collector import collecting
from tests.server.peers import to
from tests.waiting import PATIENCE_S, until
from tests.web.browsers import Browsing, browsing

from bester import __version__
from bester.core import metrics as by_type
from bester.errors import Internal
from bester.server.admin import problems
from bester.server.admin.status import look

TOKEN = "a-token-of-the-scraper"
DASHBOARD = Path(__file__).parents[2] / "docs" / "grafana" / "bester.json"


async def metrics(play: Browsing) -> dict[tuple[str, str], float]:
    """Returns the samples by their names and their labels' values, in the order of the labels' names."""
    status, text, headers = await play.get("/metrics")
    assert status == 200
    assert headers["Content-Type"].startswith("text/plain")
    found: dict[tuple[str, str], float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name, " ".join(value for _, value in sorted(sample.labels.items()))] = sample.value
    return found


async def test_metrics_of_spans() -> None:
    async with collecting() as collector, browsing({"tracing": {"otlp": collector.url}}) as play:
        wire = await play.login()
        wire.ask("nothing", "1")
        await wire.bad("1")
        play.server.tracing.flush()
        await until(lambda: collector.spans)
        await until(lambda: play.server.tracing.sent)
        found = await metrics(play)
        assert [found["bester_spans_total", outcome] for outcome in ("sent", "failed", "dropped")] == [1, 0, 0]


async def test_metrics() -> None:
    async with browsing() as play:
        handler, sender = await play.attach("chat"), await play.login()
        await play.server.accounts.add("away", "secret")
        sender.ask("chat", "1")
        handler.answer(await handler.get(), to("t", "away"))
        await sender.get()
        await sender.good("1")
        sender.ask("nothing", "2")
        await sender.bad("2")
        sender.ask("chat", "3")
        await handler.get()
        play.server.storage.expire()  # as if ten seconds had passed
        found = await metrics(play)
        assert found["bester_messages_total", "good chat"] == 1
        assert found["bester_messages_total", "noHandler "] == 1
        assert found["bester_messages_under_way", ""] == 1
        assert found["bester_handler_requests_total", "answered chat"] == 1
        assert found["bester_handler_seconds_count", "chat"] == 1
        assert 0 < found["bester_handler_seconds_sum", "chat"] < PATIENCE_S
        assert found["bester_handler_seconds_bucket", "30.0 chat"] == 1
        assert found["bester_handler_seconds_bucket", "+Inf chat"] == 1
        assert found["bester_handler_outstanding", "chat"] == 1
        assert found["bester_handlers_attached", "chat"] == 1
        assert found["bester_sessions", ""] == 1
        assert found["bester_mailbox_messages", ""] == 1
        assert found["bester_links", "out"] == 0
        assert found["bester_bytes_total", "received client"] > 100 < found["bester_bytes_total", "sent client"]
        assert found["bester_bytes_total", "sent handler"] > 100
        assert found["bester_queue_length", "handlers"] == 0
        assert found["bester_receipts_total", "recorded"] + found["bester_receipts_total", "unrecorded"] <= 2
        assert found["bester_store_commit_seconds_count", ""] > 0
        assert found["bester_store_commit_seconds_bucket", "+Inf"] == found["bester_store_commit_seconds_count", ""]
        assert found["bester_disk_free_bytes", ""] > 0
        assert found["bester_info", f"test.example {__version__}"] == 1
        assert ("process_resident_memory_bytes", "") in found


async def test_what_was_dropped_and_what_waits() -> None:
    async with browsing() as play:
        handler, sender = await play.attach("chat", concurrency=1), await play.login()
        sender.ask("chat", "1")
        handler.answer(await handler.get(), to("nobody"))
        assert await sender.bad("1") == "unknownAccount"
        for id in ("2", "3", "4"):
            sender.ask("chat", id)
        await handler.get()
        await until(lambda: play.runtime.exchange.reports.under_way == 3)
        found = await metrics(play)
        assert found["bester_dropped_total", "unknownAccount recipient"] == 1
        assert found["bester_queue_length", "handlers"] == found["bester_handler_waiting", "chat"] == 2


async def test_types_that_anybody_makes_up_are_counted_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(by_type, "MAX_TYPES", 1)
    async with browsing() as play:
        handler, sender = await play.attach("first", 'second"', "third"), await play.login()
        for type in ("first", 'second"', "third", "nobody's"):
            sender.ask(type, type)
            if type != "nobody's":
                handler.answer(await handler.get(), to("t"))
            while (await sender.get())["header"]["messageType"] != "statusReport":
                pass
        found = await metrics(play)
        assert {key[1]: value for key, value in found.items() if key[0] == "bester_messages_total"} == {
            "good ": 2,
            "noHandler ": 1,
            "good first": 1,
        }
        assert found["bester_handlers_attached", ""] == 2
        assert found["bester_handler_seconds_count", ""] == 2


async def test_metrics_are_for_this_machine_a_token_and_admins() -> None:
    async with browsing(web={"metricsToken": TOKEN}) as play:
        assert (await play.get("/metrics"))[0] == 200
        for headers in (
            {"X-Forwarded-For": "192.0.2.1"},
            {"Host": "bester.example"},
            {"Origin": "http://evil.example"},
        ):
            assert (await play.get("/metrics", headers=headers))[0] == 403
            for token in ("wrong", "", f"{TOKEN}x"):
                bearer = headers | {"Authorization": f"Bearer {token}"}
                assert (await play.get("/metrics", headers=bearer))[0] == 403
            assert (await play.get("/metrics", headers=headers | {"Authorization": f"Bearer {TOKEN}"}))[0] == 200
        await play.sign_in()
        assert (await play.get("/metrics", headers={"X-Forwarded-For": "192.0.2.1"}))[0] == 200
    async with browsing() as play:
        headers = {"Host": "bester.example", "Authorization": "Bearer "}
        assert (await play.get("/metrics", headers=headers))[0] == 403


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LOCALHOST:9000", 200),  # as through a forwarded port: who connects names the port, and could name any
        ("127.0.0.1", 200),
        ("127.1.2.3:80", 200),
        ("[::1]:8080", 200),
        ("127.0.0.1.evil.example", 403),
        ("127.evil.example:8080", 403),
        ("localhost.evil.example", 403),
        ("evil.example", 403),
        ("localhost@evil.example", 403),
        ("localhost:x", 403),
        ("localhost:99999", 403),
        ("127.1", 403),
        ("127.0.0.01", 403),
        ("[127.0.0.1]", 403),
        ("[::1].evil.example", 403),
        ("::1", 403),
        ("0.0.0.0", 403),
        ("10.0.0.1", 403),
        ("\u212aocalhost", 403),
    ],
)
async def test_metrics_are_for_who_calls_this_machine_by_its_own_name(host: str, status: int) -> None:
    async with browsing() as play:
        request = f"GET /metrics HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()
        answer = await play.raw(request)
        assert answer.status == status


async def test_metrics_are_not_for_pages() -> None:
    async with browsing() as play:
        assert (await play.get("/metrics", headers={"Sec-Fetch-Site": "cross-site"}))[0] == 403
        assert (await play.get("/metrics", headers={"Sec-Fetch-Site": "none"}))[0] == 200


async def test_the_dashboard_shows_metrics_that_there_are() -> None:
    async with browsing() as play:
        await play.attach("chat")
        _, text, _ = await play.get("/metrics")
        names = {line.split("{")[0].split(" ")[0] for line in text.splitlines() if not line.startswith("#")}
        names |= {line.split(" ")[2] for line in text.splitlines() if line.startswith("# TYPE")}
    dashboard: dict[str, Any] = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    assert len(expressions) > 15
    for expression in expressions:
        for name in re.findall(r"\b(?:bester|process)_[a-z_]+", expression):
            assert name in names, name


# -- health -----------------------------------------------------------------------------------------------------


async def test_healthy() -> None:
    async with browsing() as play:
        assert await play.json("/healthz") == (200, {"status": "ok"})
        assert await play.json("/readyz") == (200, {"ready": True, "reasons": []})
        answers = await asyncio.gather(*(play.json("/readyz") for _ in range(5)))
        assert [status for status, _ in answers] == [200] * 5


async def test_a_disk_without_its_reserve_is_not_ready() -> None:
    more_than_there_is = min(shutil.disk_usage("/tmp").free + (1 << 34), 1 << 40)
    async with browsing({"storage": {"reserve": more_than_there_is}}) as play:
        assert await play.json("/readyz") == (503, {"ready": False, "reasons": ["disk"]})
        assert (await play.json("/healthz"))[0] == 200
        (problem,) = (await look(play.server.admin).status())["problems"]
        assert problem["what"] == "disk"


async def test_a_store_that_is_lost_is_not_ready() -> None:
    async with browsing() as play:
        await play.server.messages.close()
        await play.server.accounts.close()
        assert await play.json("/readyz") == (503, {"ready": False, "reasons": ["store"]})
        assert (await problems.find(play.server.admin))[0]["what"] == "store"


@pytest.mark.parametrize("name", ["clients", "besterHandlers"])
async def test_a_socket_that_nobody_finds_is_not_ready(name: str) -> None:
    async with browsing() as play:
        (play.folder / name).unlink()
        assert await play.json("/readyz") == (503, {"ready": False, "reasons": ["listeners"]})


async def test_a_listener_that_is_closed_is_not_ready() -> None:
    async with browsing() as play:
        play.running.daemon.sockets.listeners[0].close()
        assert await play.json("/readyz") == (503, {"ready": False, "reasons": ["listeners"]})


async def test_accounts_that_do_not_answer_are_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    class Elsewhere:
        async def count(self) -> int:
            raise Internal("Redis does not answer")

    async with browsing() as play:
        monkeypatch.setattr(play.server.accounts, "store", Elsewhere())
        assert await play.json("/readyz") == (503, {"ready": False, "reasons": ["accounts"]})
        monkeypatch.undo()


async def test_a_server_that_has_not_opened_all_is_not_ready() -> None:
    async with browsing() as play:
        play.runtime.started_up = False
        assert await play.json("/readyz") == (503, {"ready": False, "reasons": ["starting"]})


async def test_a_server_that_drains_is_not_ready() -> None:
    async with browsing() as play:
        play.runtime.stop_soon()
        assert await play.json("/readyz") == (503, {"ready": False, "reasons": ["draining"]})


async def test_a_loop_that_is_late_shows() -> None:
    async with browsing() as play:
        await until(lambda: play.server.rates.history)
        time.sleep(2.5)  # the loop itself is held up
        await until(lambda: play.server.rates.lag_s > 1)
        (problem,) = await problems.find(play.server.admin)
        assert problem["what"] == "loop"


# -- problems ---------------------------------------------------------------------------------------------------


async def test_certificates_that_end_are_problems(tmp_path: Path) -> None:
    papers = self_signed(tmp_path, "localhost", days=5)
    web = {"certificate": papers.certificate, "key": papers.key}
    async with browsing(web=web) as play:
        (problem,) = await problems.find(play.server.admin)
        assert problem["what"] == "certificate"
        assert problem["name"] == "the certificate localhost.pem of the web listener"
        assert problem["detail"].startswith("ends in 4 days")


async def test_mailboxes_and_queues_that_fill_up_are_problems() -> None:
    limits = {"mailboxMessages": 1}
    federation = {"maxQueued": 1}
    async with browsing({"limits": limits, "federation": federation}) as play:
        handler, sender = await play.attach("chat"), await play.login()
        await play.server.accounts.add("away", "secret")
        sender.ask("chat", "1")
        servers = {"type": "sendServers", "data": ["127.0.0.1:1"]}
        handler.answer(await handler.get(), to("away"), servers)
        await sender.good("1")
        play.server.storage.expire()  # as if ten seconds had passed
        found = {problem["what"]: problem for problem in await problems.find(play.server.admin)}
        assert found["mailbox"]["name"] == "away"
        assert found["queue"]["name"] == "127.0.0.1:1"
        assert found["queue"]["since"] > 0
        play.server.watch.look_soon()
        await until(lambda: play.server.watch.counts()["mailbox"])
        gauges = await metrics(play)
        assert gauges["bester_problems", "queue"] == 1
        assert gauges["bester_problems", "disk"] == 0
