/** The page of one type: what its handlers say of it, how it goes, and a form to try it. */

import { badge, check, control, empty, h, replace, toast } from "../../ui/dom.js";
import { DataForm, firstValue, sampleButtons } from "../../ui/data-form.js";
import { count, millis, rate, span } from "../../ui/format.js";
import { shownSchema } from "../../ui/schema.js";
import { canSend, command, sender } from "../api.js";
import { askPassword, reported } from "./messages.js";
import { poll } from "./polling.js";

/** @import { Message } from "../../js/bester.js" */
/** @import { Live, Place } from "../model.js" */

const MOST_TEXT = 20_000;
const MOST_REPLIES = 20;

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
  const { element, take } = tryIt(type, live);
  replace(page, head, element, schemas);
  /** @type {any} */
  let described = null;

  /** @param {[any[], any[]]} found */
  function show([[row], handlers]) {
    const served = handlers.find((one) => one.type === type);
    replace(head, ...about(row, served, live));
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
    () => Promise.all([command("describe", { type }), command("listHandlers")]),
    show,
    (error) => replace(head, empty(`${type} cannot be shown`, error.message)),
    2000,
  );
  return polling.stop;
}

/**
 * @param {any} row
 * @param {any} served
 * @param {Live} live
 */
function about(row, served, live) {
  const now = live.now?.types.find((one) => one.name === row.type);
  const by = (served?.attached ?? []).map(
    (/** @type {any} */ one) => `${one.name || "unnamed"}${one.node ? ` at ${one.node}` : ""} for ${span(one.seconds)}`,
  );
  if (served?.classic) by.push("a classic handler");
  const others = (row.versions ?? []).filter((/** @type {string} */ one) => one !== row.version);
  const facts = [
    ["Served by", by.slice(0, 5).join(", ") + (by.length > 5 ? ` and ${by.length - 5} more` : "")],
    ["Other versions", others.join(", ")],
    ["Now", `${rate(now?.rate ?? 0)}/s`],
    ["Mean", millis(served?.meanMs)],
    ["Answered", count(served?.answered)],
    ["Failed", count(served?.failed)],
    ["Last error", served?.lastError],
  ];
  return [
    h("h2", { id: "type" }, row.type, " ", row.version && badge(row.version, "accent"), " ", validates(row.validates)),
    h(
      "div.stack",
      null,
      row.description
        ? h("p.words", null, row.description)
        : h("p.muted", null, "Its handlers say nothing of it. They may: docs/schemas.md tells how."),
      h(
        "dl.facts",
        null,
        facts.filter(([, value]) => value).map(([name, value]) => [h("dt", null, name), h("dd", null, value)]),
      ),
    ),
  ];
}

/** @param {boolean | null} on */
function validates(on) {
  if (on === null || on === undefined) return null;
  return on ? badge("validated", "good") : badge("not validated: no schema", "waiting");
}

/**
 * Makes the form that sends a message of a type; `take` tells it what the handlers say.
 *
 * @param {string} type
 * @param {Live} live
 */
function tryIt(type, live) {
  const data = new DataForm({ text: "hello" });
  let touched = false;
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
          replace(answer, ...(await send(value, control(form, "dry").checked)));
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
    /** @type {Message[]} */
    const replies = [];
    client.onmessage = (message) => void replies.push(message);
    const granted = client.features.includes("route");
    const asked = granted ? { route: !dry, dryRun: dry, timeout: 60 } : { timeout: 60 };
    const report = await client.send(type, value, asked);
    return [
      replies.length > 0 &&
        h(
          "section.card",
          { "aria-label": "Replies" },
          h("h2", null, "Reply"),
          replies.slice(0, MOST_REPLIES).map((reply) => h("pre", null, shown(reply.data))),
        ),
      ...reported(report, dry, granted, live),
    ];
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

  return { element: h("div.stack", null, form, answer), take };
}

/** @param {any} value */
function shown(value) {
  const text = JSON.stringify(value, null, 2) ?? "null";
  return text.length > MOST_TEXT ? `${text.slice(0, MOST_TEXT)}\n…` : text;
}
