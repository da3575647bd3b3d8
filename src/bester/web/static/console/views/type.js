/** The page of one type: what its handlers say of it, how it goes, and a form to try it. */

import { Answer } from "../../ui/answer.js";
import { badge, check, control, empty, h, replace, toast } from "../../ui/dom.js";
import { DataForm, firstValue, sampleButtons } from "../../ui/data-form.js";
import { count, millis, rate, span } from "../../ui/format.js";
import { shownSchema } from "../../ui/schema.js";
import { canSend, command, sender } from "../api.js";
import { connected } from "./acting.js";
import { VerdictRates, shownVerdicts } from "./guards.js";
import { askPassword, reported } from "./messages.js";
import { poll } from "./polling.js";

/** @import { Report } from "../../js/bester.js" */
/** @import { Child } from "../../ui/dom.js" */
/** @import { Live, Place } from "../model.js" */
/** @import { Verdicts } from "./guards.js" */

const UNSAID = "Its handlers say nothing of it. They may: docs/schemas.md tells how.";
const SILENT = {
  description: null,
  version: null,
  request: null,
  answer: null,
  parts: null,
  samples: [],
  validates: null,
};

/**
 * Shows the page of a type, whose name is the rest of the place.
 *
 * @param {Place} place
 */
export function typePage({ page, tools, live, rest }) {
  const type = rest[1] ?? "";
  replace(tools, h("a.button", { href: "#/handlers" }, "All handlers"));
  const head = h("section.card", { "aria-labelledby": "type" });
  const schemas = h("div.stack");
  const { element, take, stop } = tryIt(type, live);
  replace(page, head, element, schemas);
  /** @type {any} */
  let described = null;

  const rates = new VerdictRates();

  /** @param {[any[], any[], {[type: string]: Verdicts}]} found */
  function show([[row], handlers, verdicts]) {
    replace(head, ...about(row, handlers, verdicts[type], live));
    if (JSON.stringify(row) === JSON.stringify(described)) return;
    described = row;
    const parts = [
      ["Data", row.request],
      ["Answer", row.answer],
      ["Parts", row.parts],
    ];
    replace(
      schemas,
      parts
        .filter(([, schema]) => schema !== null)
        .map(([title, schema]) =>
          h("section.card.list", { "aria-label": title }, h("h2", null, title), shownSchema(title, schema)),
        ),
    );
    take(row);
  }

  const polling = poll(
    async () => {
      const described = command("describe", { type });
      described.catch(() => {});
      /** @type {any[]} */
      const handlers = await command("listHandlers");
      // A type of the configuration that nobody serves has its guards, and nothing to say.
      const rows = await described.catch((error) => {
        if (handlers.some((one) => one.type === type)) return [{ ...SILENT, type }];
        throw error;
      });
      return /** @type {[any[], any[], {[type: string]: Verdicts}]} */ ([rows, handlers, rates.take(handlers)]);
    },
    show,
    (error) => replace(head, empty(`${type} cannot be shown`, error.message)),
    2000,
  );
  return () => {
    polling.stop();
    stop();
  };
}

/**
 * @param {any} row
 * @param {any[]} handlers
 * @param {Verdicts | undefined} verdicts
 * @param {Live} live
 */
function about(row, handlers, verdicts, live) {
  const served = handlers.find((one) => one.type === row.type);
  const recordings = live.now?.recordings.filter((one) => one.type === row.type) ?? [];
  const now = live.now?.types.find((one) => one.name === row.type);
  const by = (served?.attached ?? []).map(
    (/** @type {any} */ one) =>
      [one.name || "unnamed", one.node && `at ${one.node}`, connected(one), `for ${span(one.seconds)}`]
        .filter(Boolean)
        .join(" "),
  );
  if (served?.classic) by.push("a classic handler");
  const others = (row.versions ?? []).filter((/** @type {string} */ one) => one !== row.version);
  /** @type {[string, Child][]} */
  const facts = [
    ["Served by", !by.length && badge("nobody", "bad")],
    ["Served by", by.slice(0, 5).join(", ") + (by.length > 5 ? ` and ${by.length - 5} more` : "")],
    ["Other versions", others.join(", ")],
    ["Validated", validation(row.validates)],
    ["Guarded by", served?.guards?.length > 0 && guards(served.guards, handlers)],
    ["Verdicts", verdicts && shownVerdicts(verdicts)],
    ["Recorded", recordings.length > 0 && recordings.map(recording)],
    ["Now", `${rate(now?.rate ?? 0)}/s`],
    ["Mean", millis(served?.meanMs)],
    ["Answered", count(served?.answered)],
    ["Failed", count(served?.failed)],
    ["Last error", served?.lastError],
  ];
  return [
    h("h2", { id: "type" }, row.type, " ", row.version && badge(row.version, "accent"), " ", row.validates && badge("validated", "good")),
    h(
      "div.stack",
      null,
      row.description
        ? h("p.words", null, row.description)
        : h("p.muted", null, by.length ? UNSAID : "Nobody serves this type now."),
      h(
        "dl.facts",
        null,
        facts.filter(([, value]) => value).map(([name, value]) => [h("dt", null, name), h("dd", null, value)]),
      ),
    ),
  ];
}

/** @param {boolean | null | undefined} on */
function validation(on) {
  if (on) return "each message, before its handler is asked";
  return on === false ? badge("not yet: no handler gives a schema", "waiting") : "no";
}

/**
 * Links the guards of a type, and says which of them nobody serves.
 *
 * @param {string[]} names
 * @param {any[]} handlers
 */
function guards(names, handlers) {
  return names.map((name, at) => {
    const row = handlers.find((one) => one.type === name);
    const isServed = row && !row.stopped && (row.attached.length || row.classic || row.process?.pid);
    return [
      at > 0 && ", then ",
      h("a", { href: `#/handlers/of/${encodeURIComponent(name)}`, dataset: { focus: `guard:${name}` } }, name),
      !isServed && [" ", badge("nobody serves it", "bad")],
    ];
  });
}

/** @param {any} row */
function recording({ by, left, recorded, lost, node }) {
  const lack = lost ? `, ${count(lost)} lost` : "";
  return h("div", null, `by ${by}${node ? ` at ${node}` : ""}, for ${span(left)} more: ${count(recorded)} so far${lack}`);
}

/**
 * Makes the form that sends a message of a type; `take` tells it what the handlers say, `stop` cancels what it sent.
 *
 * @param {string} type
 * @param {Live} live
 */
function tryIt(type, live) {
  const data = new DataForm({ text: "hello" });
  let touched = false;
  /** @type {Answer | null} */
  let answering = null;
  const samples = h("div", { hidden: true });
  const wrong = h("p.wrong", { role: "alert" });
  const go = h("button.primary", { type: "submit" }, "Send");
  const answer = h("div.stack", { "aria-live": "polite" });
  const form = h(
    "form.card",
    {
      oninput: () => {
        touched = true;
        go.textContent = control(form, "dry").checked ? "Show what would happen" : "Send";
      },
      onsubmit: async (event) => {
        event.preventDefault();
        const value = data.read();
        wrong.textContent = "";
        if (value === undefined || (!canSend() && !(await askPassword()))) return;
        go.disabled = true;
        try {
          await send(value, control(form, "dry").checked);
        } catch (error) {
          wrong.textContent = error.message;
          if (!canSend()) toast("Give your password again to send.", "bad");
        }
        go.disabled = false;
      },
    },
    h("h2", null, "Try it"),
    samples,
    data.element,
    check("Dry run: ask the handlers what they would do, and do nothing", { name: "dry" }),
    wrong,
    h("div.buttons", null, go),
  );

  /**
   * @param {any} value
   * @param {boolean} dry
   */
  async function send(value, dry) {
    const client = await sender();
    const granted = client.features.includes("route");
    if (dry) {
      if (!granted) throw new Error("This server does not grant dry runs.");
      replace(answer, ...reported(await client.send(type, value, { dryRun: true, timeout: 60 }), dry, granted, live));
      return;
    }
    const coming = (answering = new Answer());
    const shown = h("section.card", { "aria-label": "Replies" }, h("h2", null, "Answer"), coming.element);
    replace(answer, shown);
    /** @type {Report | null | undefined} */
    let report;
    try {
      report = await coming.run(client, type, value);
    } finally {
      if (coming.number === 0 && report !== null) shown.remove();
    }
    if (report) answer.append(...reported(report, dry, granted, live));
  }

  /** @param {any} row */
  function take(row) {
    data.describe(row.request);
    samples.hidden = row.samples.length === 0;
    replace(
      samples,
      row.samples.length > 0 &&
        sampleButtons(row.samples, (sample) => {
          touched = true;
          data.set(sample);
        }),
    );
    if (!touched) data.set(firstValue(row));
  }

  return { element: h("div.stack", null, form, answer), take, stop: () => answering?.stop() };
}
