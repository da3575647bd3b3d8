/** The view of handlers, and the page of each type: which handlers serve each type, since when, how fast, and what failed last. */

import { ask, badge, empty, h, replace, table, toast } from "../../ui/dom.js";
import { clock, count, millis, rate, span } from "../../ui/format.js";
import { command } from "../api.js";
import { attempt, confirm, connected, rowButton } from "./acting.js";
import { VerdictRates, shownVerdicts } from "./guards.js";
import { poll } from "./polling.js";
import { typePage } from "./type.js";

/** @import { Place } from "../model.js" */
/** @import { Verdicts } from "./guards.js" */

const MOST = 100;

/**
 * Returns the node, if there are several.
 *
 * @param {{node?: string}} row
 */
const at = ({ node }, before = "at ", after = "") => (node ? `${before}${node}${after}` : "");

/** @param {Place} place */
export function handlers(place) {
  return place.rest[0] === "of" ? typePage(place) : types(place);
}

/** @param {Place} place */
function types({ page, live }) {
  const list = h("section.card.list", { "aria-label": "Handlers" });
  replace(page, list);

  const rates = new VerdictRates();

  const failing = (/** @type {any} */ row) =>
    row.answered + row.failed && row.failed / (row.answered + row.failed) > 0.05;

  /** @param {[any[], {[type: string]: Verdicts}]} found */
  function show([rows, verdicts]) {
    if (!rows.length) {
      const text =
        "A handler is a program that understands a type of message. Attach one to the handler socket, or name one in the configuration under handlers.typeMap; it appears here at once.";
      replace(list, empty("No handlers yet", text));
      return;
    }
    const recorded = new Set((live.now?.recordings ?? []).map((one) => one.type));
    const speeds = new Map((live.now?.types ?? []).map((type) => [type.name, type]));
    replace(
      list,
      table({
        caption: "Types and their handlers",
        rows: rows.slice(0, MOST),
        columns: [
          {
            label: "Type",
            cell: (row) => [
              h("a", { href: `#/handlers/of/${encodeURIComponent(row.type)}`, dataset: { focus: row.type } }, row.type),
              row.version && [" ", h("span.muted.note", null, row.version)],
              recorded.has(row.type) && [" ", badge("recorded", "waiting")],
              row.guards?.length > 0 && h("div.muted.note", null, `guarded by ${row.guards.join(", ")}`),
              verdicts[row.type] && h("div.muted.note", null, "guard: ", shownVerdicts(verdicts[row.type])),
              row.lastError && h("div.cut.error-text.note", { title: row.lastError }, row.lastError),
            ],
          },
          { label: "State", cell: state },
          { label: "Served by", cell: servedBy },
          { label: "Outstanding", kind: "number", cell: outstanding },
          { label: "Now", kind: "number", cell: (row) => `${rate(speeds.get(row.type)?.rate ?? 0)}/s` },
          { label: "Mean", kind: "number", cell: (row) => millis(row.meanMs) },
          { label: "Answered", kind: "number", cell: (row) => count(row.answered) },
          {
            label: "Failed",
            kind: "number",
            cell: (row) => (failing(row) ? badge(count(row.failed), "bad") : count(row.failed)),
          },
          { label: "", kind: "actions", cell: actions },
        ],
      }),
      rows.length > MOST && h("p.pager", null, `and ${rows.length - MOST} more types`),
    );
  }

  /** @param {any} row */
  function state(row) {
    if (row.stopped) return badge("stopped", "waiting");
    if (row.attached.length) return badge("attached", "good");
    if (row.process) return row.process.pid ? badge("running", "good") : badge("not running", "bad");
    return row.classic ? badge("classic", "accent") : badge("nobody", "bad");
  }

  /** @param {any} row */
  function servedBy(row) {
    const parts = row.attached
      .slice(0, 3)
      .map((/** @type {any} */ one) =>
        h(
          "div",
          null,
          h(
            "span.once",
            null,
            one.name || "unnamed",
            " ",
            h("span.muted", null, `${at(one, "at ", " ")}since ${span(one.seconds)}`),
          ),
          connected(one) && h("div.muted.note", null, connected(one)),
        ),
      );
    if (row.attached.length > 3) parts.push(h("div.muted", null, `and ${row.attached.length - 3} more`));
    if (row.process?.pid) {
      const again = row.process.starts > 1 ? `, started ${row.process.starts} times` : "";
      parts.push(
        h("div.once", null, `process ${row.process.pid}`, h("span.muted", null, again, at(row.process, " at "))),
      );
    } else if (row.classic) parts.push(h("div.mono.cut", { title: row.classic }, row.classic.split("/").at(-1)));
    return parts.length ? parts : h("span.muted", null, "–");
  }

  /** @param {any} row */
  function outstanding(row) {
    /** @type {{outstanding: number, concurrency: number}[]} */
    const attached = row.attached;
    const busy = row.active + attached.reduce((sum, one) => sum + one.outstanding, 0);
    const room = attached.reduce((sum, one) => sum + one.concurrency, 0);
    const text = room ? `${count(busy)} of ${count(room)}` : count(busy);
    return row.waiting ? [text, " ", badge(`${count(row.waiting)} wait`, "waiting")] : text;
  }

  /** @param {any} row */
  function actions(row) {
    const { type } = row;
    /** @type {(what: string, act: (row: any) => unknown) => HTMLElement} */
    const button = (what, act) => rowButton({ what, about: type, onclick: () => act(row) });
    const can = [];
    if (row.process) can.push(button("Log", log));
    if ((row.stopped || (row.process && !row.process.pid)) && (row.classic || row.process))
      can.push(button("Start", start));
    if (!row.stopped && (row.attached.length || row.classic)) can.push(button("Drain", drain), button("Stop", stop));
    return h("div.buttons", null, can);
  }

  /** @param {{type: string}} row */
  async function start({ type }) {
    await attempt(async () => {
      await command("startHandler", { type });
      toast(`${type} was started.`);
    });
    polling.now();
  }

  /** @param {{type: string}} row */
  function drain({ type }) {
    confirm({
      title: `Drain ${type}?`,
      action: "Drain",
      body: "Its handlers get no new messages, finish what they have, and stop. New messages of this type are reported bad until somebody serves it again.",
      run: async () => {
        const { outstanding: left } = (await command("drainHandler", { type })) ?? {};
        toast(`${type} is draining; ${count(left ?? 0)} outstanding.`);
        polling.now();
      },
    });
  }

  /** @param {{type: string}} row */
  function stop({ type }) {
    confirm({
      title: `Stop ${type} now?`,
      action: "Stop",
      body: "What its handlers are working on fails, and is reported bad to the senders. Drain it to let that finish first.",
      run: async () => {
        await command("stopHandler", { type });
        toast(`${type} was stopped.`);
        polling.now();
      },
    });
  }

  /** @param {{type: string}} row */
  async function log({ type }) {
    await attempt(async () => {
      /** @type {{time: number, line: string, node?: string}[]} */
      const lines = await command("handlerLog", { type, lines: 200 });
      const text = lines.map(({ time, line, node }) => `${clock(time)}  ${node ? `${node}  ` : ""}${line}`).join("\n");
      const body = text
        ? h("pre", { tabindex: 0, role: "region", "aria-label": "Log" }, text)
        : h("p.muted", null, "It wrote nothing yet.");
      ask({ title: `What ${type} wrote`, body, action: "Close" });
      body.scrollTop = body.scrollHeight;
    });
  }

  const polling = poll(
    async () => {
      /** @type {any[]} */
      const rows = await command("listHandlers");
      return /** @type {[any[], {[type: string]: Verdicts}]} */ ([rows, rates.take(rows)]);
    },
    show,
    (error) => replace(list, empty("The handlers cannot be shown", error.message)),
    2000,
  );
  return polling.stop;
}
