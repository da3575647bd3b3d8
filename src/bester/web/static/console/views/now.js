/** The view Now: a living picture of this server, its numbers over the last ten minutes, and its problems. */

import { badge, empty, h, replace, setText, table } from "../../ui/dom.js";
import { clock, count, millis, rate, span } from "../../ui/format.js";
import { onchange } from "../../ui/theme.js";
import { command } from "../api.js";
import { living } from "../living.js";
import { plot } from "../plot.js";
import { poll } from "./polling.js";

/** @import { Child } from "../../ui/dom.js" */
/** @import { Place, ShownProblem } from "../model.js" */

/** @param {Pick<Place, "page" | "live">} place */
export function now({ page, live }) {
  /** @type {Record<string, [string, HTMLElement]>} */
  const numbers = {
    accounts: ["accounts online", h("dd")],
    sessions: ["sessions", h("dd")],
    messages: ["messages / s", h("dd")],
    streams: ["answers in parts", h("dd")],
    mean: ["mean answer", h("dd")],
    errors: ["reported bad", h("dd")],
    dropped: ["dropped", h("dd")],
    uptime: ["running for", h("dd")],
  };
  const picture = living();
  const plots = [
    plot({
      title: "Messages",
      lines: [
        { key: "messages", label: "in", colour: "accent" },
        { key: "deliveries", label: "delivered", colour: "muted" },
      ],
      format: (value) => `${rate(value)}/s`,
      least: 5,
    }),
    plot({
      title: "Latency",
      lines: [
        { key: "mean", label: "mean", colour: "accent" },
        { key: "p95", label: "95 %", colour: "muted" },
      ],
      format: millis,
      least: 1,
    }),
    plot({
      title: "Reported bad",
      lines: [{ key: "errors", label: "", colour: "bad" }],
      format: (value) => `${rate(value)} %`,
      least: 5,
    }),
  ];
  const nodes = h("section.card.list", { "aria-labelledby": "nodes", hidden: true });
  const recordings = h("section.card.list", { "aria-labelledby": "recordings", hidden: true });
  const problems = h("div", { role: "status" });
  const problemsCard = h(
    "section.card",
    { "aria-labelledby": "problems" },
    h("h2", { id: "problems" }, "Problems"),
    problems,
  );
  replace(
    page,
    h(
      "dl.card.numbers",
      null,
      Object.values(numbers).map(([label, value]) => h("div", null, h("dt", null, label), value)),
    ),
    h(
      "section.card.picture",
      { "aria-labelledby": "picture" },
      h("h2.hidden", { id: "picture" }, "Messages moving now"),
      picture.element,
    ),
    problemsCard,
    recordings,
    nodes,
    h(
      "section.plots",
      { "aria-label": "The last ten minutes" },
      plots.map(({ element }) => element),
    ),
  );

  let told = "";
  const show = (/** @type {boolean} */ fresh) => {
    const last = live.points.at(-1);
    const state = live.now;
    if (!state || !last) return;
    setText(numbers.accounts[1], count(state.counts.online));
    setText(numbers.sessions[1], count(state.counts.sessions));
    setText(numbers.messages[1], rate(last.messages));
    setText(numbers.streams[1], count(state.counts.streams));
    setText(numbers.mean[1], millis(last.mean));
    setText(numbers.errors[1], `${rate(last.errors)} %`);
    setText(numbers.dropped[1], count(lost(state.totals.dropped)));
    setText(numbers.uptime[1], span(state.server.uptime));
    const text = JSON.stringify(state.problems);
    if (text !== told) {
      told = text;
      replace(
        problems,
        state.problems.length
          ? list(state.problems)
          : h("p.muted", null, "None. Handlers answer, links are up, and nothing was given up."),
      );
    }
    recordings.hidden = !state.recordings.length;
    if (!recordings.hidden && (fresh || !recordings.childElementCount))
      replace(recordings, h("h2", { id: "recordings" }, "Recorded now"), recordingTable(state.recordings));
    nodes.hidden = state.nodes.length < 2;
    if (!nodes.hidden && (fresh || !nodes.childElementCount))
      replace(nodes, h("h2", { id: "nodes" }, "Nodes"), nodeTable(state.nodes));
    if (document.hidden) return;
    for (const one of plots) one.show(live.points);
    if (fresh) picture.show(state);
  };
  const meeting = poll(
    () => command("listClients", { limit: 30 }),
    (clients) => live.meet(clients),
    () => {},
    10_000,
  );
  if (!live.now) replace(problems, empty("Waiting for the first numbers", "They come once a second."));
  show(false);
  if (live.now) picture.show({ ...live.now, movements: [] });
  const stops = [
    live.listen(show),
    meeting.stop,
    onchange(() => plots.forEach((one) => one.redraw())),
    picture.stop,
    ...plots.map((one) => one.stop),
  ];
  return () => stops.forEach((stop) => stop());
}

/**
 * Lists the processes that together are this server.
 *
 * @param {any[]} rows
 */
function nodeTable(rows) {
  /** @type {(show: (row: any) => Child) => (row: any) => Child} */
  const told = (show) => (row) => (row.missing ? "–" : show(row));
  return table({
    caption: "Nodes of this server",
    rows: rows.slice(0, 50),
    columns: [
      { label: "Node", cell: (row) => row.node },
      { label: "State", cell: nodeState },
      { label: "Release", kind: "once", cell: (row) => row.version ?? "–" },
      { label: "Sessions", kind: "number", cell: told((row) => count(row.sessions)) },
      { label: "Messages", kind: "number", cell: told((row) => `${rate(row.rate)}/s`) },
      { label: "Handlers", kind: "number", cell: told((row) => count(row.handlers)) },
      { label: "Running for", kind: "once", cell: told((row) => span(row.uptime)) },
      {
        label: "Problems",
        kind: "number",
        cell: told((row) => (row.problems ? badge(count(row.problems), "waiting") : "0")),
      },
    ],
  });
}

/**
 * Lists the recordings: operators who get copies of what handlers are asked and answer.
 *
 * @param {any[]} rows
 */
function recordingTable(rows) {
  const until = (/** @type {number} */ left) => clock(Date.now() / 1000 + left);
  return table({
    caption: "Recordings under way",
    rows: rows.slice(0, 50),
    columns: [
      {
        label: "Type",
        cell: ({ type }) => h("a", { href: `#/handlers/of/${encodeURIComponent(type)}`, dataset: { focus: type } }, type),
      },
      { label: "By", cell: (row) => `${row.by}${row.node ? ` at ${row.node}` : ""}` },
      { label: "Until", kind: "once", cell: (row) => `${until(row.left)}, in ${span(row.left)}` },
      { label: "Share", kind: "number", cell: (row) => `${rate(100 * row.sample)} %` },
      { label: "Recorded", kind: "number", cell: (row) => count(row.recorded) },
      { label: "Lost", kind: "number", cell: (row) => (row.lost ? badge(count(row.lost), "waiting") : "0") },
    ],
  });
}

/** @param {any} row */
function nodeState({ missing, draining }) {
  if (missing) return badge("no answer", "bad");
  return draining ? badge("draining", "waiting") : badge("up", "good");
}

/**
 * Counts the messages and recipients that were dropped; frames, reports and receipts do not count.
 *
 * @param {Record<string, Record<string, number>>} dropped
 */
function lost(dropped) {
  const messages = ["message", "recipient", "letter", "outgoing"].map((what) => Object.values(dropped[what] ?? {}));
  return messages.flat().reduce((sum, number) => sum + number, 0);
}

/** @param {ShownProblem[]} problems */
function list(problems) {
  return h(
    "ul.problems",
    null,
    problems
      .slice(0, 20)
      .map(({ error, text, view }) =>
        h(
          "li",
          null,
          badge(error ? "error" : "warning", error ? "bad" : "waiting"),
          h("span", null, text, " ", view && h("a", { href: `#/${view}` }, `See ${view}`)),
        ),
      ),
    problems.length > 20 && h("li.muted", null, `and ${problems.length - 20} more`),
  );
}
