/** The view of messages: the receipts, the route of one message as a picture, and the form for sending one. */

import { ask, badge, check, control, empty, field, h, replace, table, toast } from "../../ui/dom.js";
import { clock, count, millis } from "../../ui/format.js";
import { kindOf, picture } from "../../ui/route.js";
import { canSend, command, givePassword, sender, session } from "../api.js";
import { toReceipt } from "../model.js";
import { pager } from "./acting.js";
import { held, heldLink } from "./held.js";
import { poll } from "./polling.js";

/** @import { Report } from "../../js/bester.js" */
/** @import { Child } from "../../ui/dom.js" */
/** @import { Live, Place, Receipt } from "../model.js" */

const PAGE = 50;
const MOST = 1000;
/** What receipts are filtered by: all good or bad ones, what guards decided, and the codes that are met most. */
const OUTCOMES = [
  "good",
  "bad",
  "held",
  "rejected",
  "dropped",
  "cancelled",
  "badPayload",
  "badResponse",
  "handlerError",
  "handlerTimeout",
  "handlerUnavailable",
  "noHandler",
  "notAllowed",
];

/** @param {Place} place */
export function messages(place) {
  if (place.rest[0] === "send") return compose(place);
  if (place.rest[0] === "of") return single(place);
  if (place.rest[0] === "held") return held(place);
  return stream(place);
}

// -- the stream -----------------------------------------------------------------------------------------------------

/** @param {Place} place */
function stream({ page, tools }) {
  let turned = 0;
  let more = false;
  let unrecorded = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  const list = h("section.card.list", { "aria-label": "Receipts" });
  const causes = h("div");
  const changed = () => {
    turned = 0;
    clearTimeout(timer);
    timer = setTimeout(() => polling.now(), 250);
  };
  const form = h(
    "form.card.filters",
    { role: "search", "aria-label": "Filter messages", oninput: changed, onsubmit: (event) => event.preventDefault() },
    field("Account", { name: "account", type: "search", autocomplete: "off", "data-search": "" }),
    field("Type", { name: "type", type: "search", autocomplete: "off" }),
    field("Outcome", { name: "outcome", tag: "select", options: [["", "any"], ...OUTCOMES] }),
    field("Id", { name: "id", type: "search", autocomplete: "off" }),
  );
  const waiting = heldLink();
  replace(tools, waiting.link, h("a.button.primary", { href: "#/messages/send" }, "Send a message"));
  replace(page, form, list, causes);

  /** The filter, by the names of its fields. */
  const chosen = () =>
    Object.fromEntries(
      ["account", "type", "outcome", "id"]
        .map((name) => [name, control(form, name).value.trim()])
        .filter(([, value]) => value),
    );

  async function load() {
    const found = await command("trace", { ...chosen(), limit: Math.min(MOST, (turned + 1) * PAGE + 1) });
    const from = turned * PAGE;
    more = found.receipts.length > from + PAGE;
    unrecorded = found.unrecorded;
    return found.receipts.slice(from, from + PAGE).map(toReceipt);
  }

  /** @param {Receipt[]} rows */
  function show(rows) {
    if (!rows.length) {
      const filtered = Object.keys(chosen()).length > 0;
      const text = filtered
        ? "Take something out of the filter, or look further back."
        : "Each message that a client, a handler or another server sends leaves a receipt here.";
      replace(
        list,
        empty(
          filtered ? "Nothing matches" : "No messages yet",
          text,
          h("a.button", { href: "#/messages/send" }, "Send a message"),
        ),
      );
      return;
    }
    const turn = (/** @type {() => void} */ change) => () => {
      change();
      polling.now();
    };
    replace(
      list,
      table({
        caption: "Receipts, the newest first",
        rows,
        columns: [
          {
            label: "Time",
            kind: "once",
            cell: (row) =>
              h(
                "a.id",
                {
                  href: `#/messages/of/${encodeURIComponent(row.trace)}/${row.at}`,
                  dataset: { focus: `${row.trace}/${row.at}` },
                  "aria-label": `${clock(row.at)}, the way of the message: ${row.type} from ${row.from}`,
                },
                clock(row.at),
              ),
          },
          { label: "From", cell: (row) => row.from },
          { label: "Type", cell: (row) => row.type },
          { label: "To", cell: (row) => h("span.cut", { title: row.to }, row.to || "–") },
          { label: "Outcome", cell: (row) => badge(row.outcome, row.kind) },
          { label: "Took", kind: "number", cell: (row) => millis(row.ms) },
          { label: "Id", cell: (row) => h("span.cut.mono", { title: row.id }, row.id || "–") },
        ],
      }),
      pager({
        shown: [
          turned ? `Page ${turned + 1}` : "The newest",
          unrecorded > 0 && ` · ${count(unrecorded)} more were only counted`,
        ],
        back: turned > 0 && turn(() => (turned -= 1)),
        on: more && turn(() => (turned += 1)),
        names: ["Newer", "Older"],
      }),
    );
  }

  /** @param {{causes: any[]}} found */
  function showCauses(found) {
    if (!found.causes.length) return replace(causes);
    return replace(
      causes,
      h(
        "section.card.list",
        { "aria-labelledby": "causes" },
        h("h2", { id: "causes" }, "What failed in the last hour"),
        table({
          caption: "Failures by their causes",
          rows: found.causes.slice(0, 20),
          columns: [
            { label: "Cause", cell: (row) => badge(row.code, "bad") },
            { label: "Type", cell: (row) => row.type },
            { label: "Times", kind: "number", cell: (row) => count(row.count) },
            {
              label: "Last",
              cell: (row) =>
                h(
                  "a.id",
                  {
                    href: `#/messages/of/${row.last.trace}/${row.last.at}`,
                    dataset: { focus: `cause:${row.code}:${row.type}` },
                    "aria-label": `${clock(row.last.at)}, the last ${row.code} of ${row.type}`,
                  },
                  clock(row.last.at),
                ),
            },
            { label: "What to do", cell: (row) => row.advice },
          ],
        }),
      ),
    );
  }

  const polling = poll(
    load,
    show,
    (error) => replace(list, empty("The receipts cannot be shown", error.message)),
    2000,
  );
  const why = poll(
    () => command("why"),
    showCauses,
    () => replace(causes),
    10_000,
  );
  return () => {
    clearTimeout(timer);
    polling.stop();
    why.stop();
    waiting.stop();
  };
}

// -- one message ----------------------------------------------------------------------------------------------------

/** @param {Place} place */
function single({ page, tools, rest: [, id, at], live }) {
  replace(tools, h("a.button", { href: "#/messages" }, "All messages"));
  let stopped = false;
  command("trace", { id, limit: 20 }).then(
    ({ receipts }) => {
      if (stopped) return;
      const found = receipts.find((/** @type {any} */ one) => String(one.at) === at) ?? receipts[0];
      if (found) replace(page, ...describe(toReceipt(found), live));
      else
        replace(
          page,
          h(
            "section.card",
            null,
            empty("This message is not known any more", "Receipts are kept for some days, and only so many of them."),
          ),
        );
    },
    (error) => stopped || replace(page, h("section.card", null, empty("The receipt cannot be shown", error.message))),
  );
  return () => {
    stopped = true;
  };
}

/**
 * @param {Receipt} receipt
 * @param {Live} live
 */
function describe(receipt, live) {
  /** @type {[string, Child][]} */
  const facts = [
    ["From", receipt.from],
    ["Type", receipt.type],
    ["Time", clock(receipt.at)],
    ["Took", millis(receipt.ms)],
    ["Id", receipt.id],
    ["Trace", receipt.trace],
    ["Node", receipt.node],
  ];
  return [
    h(
      "section.card",
      { "aria-labelledby": "way" },
      h("h2", { id: "way" }, "The way of this message"),
      receipt.route?.length
        ? null
        : h("p.hint", null, "Nobody asked for the route of this message: this is all that its receipt tells."),
      picture(receipt.steps, { user: receipt.from, server: live.now?.server.name ?? "" }),
    ),
    h(
      "div.two",
      null,
      h(
        "section.card",
        { "aria-labelledby": "outcome" },
        h("h2", { id: "outcome" }, "Outcome"),
        h(
          "div.stack",
          null,
          h("p", null, badge(receipt.outcome, receipt.kind)),
          receipt.message && h("p", null, receipt.message),
          resultList(receipt.results, receipt.recipients),
        ),
      ),
      h(
        "section.card",
        { "aria-labelledby": "facts" },
        h("h2", { id: "facts" }, "The message"),
        h(
          "dl.facts",
          null,
          facts.filter(([, value]) => value).map(([name, value]) => [h("dt", null, name), h("dd", null, value)]),
        ),
      ),
    ),
  ];
}

/**
 * @param {any[]} results of the first recipients
 * @param {number} [recipients] how many there are
 */
function resultList(results, recipients = results.length) {
  if (!results.length) return h("p.muted", null, "It had no recipients.");
  const most = 20;
  return h(
    "dl.facts",
    null,
    results
      .slice(0, most)
      .map(({ to, status, error, code = error?.code }) => [
        h("dt", null, to),
        h("dd", null, badge(status, kindOf(status)), code && [" ", h("span.error-text", null, error?.message ?? code)]),
      ]),
    recipients > most && [h("dt", null, "…"), h("dd", null, `and ${count(recipients - most)} more`)],
  );
}

// -- sending --------------------------------------------------------------------------------------------------------

/** @param {Place} place */
function compose({ page, tools, live }) {
  replace(tools, h("a.button", { href: "#/messages" }, "All messages"));
  const types = h("datalist", { id: "types" });
  command("listTypes").then(
    (/** @type {string[]} */ names) =>
      replace(
        types,
        names.slice(0, 200).map((name) => h("option", { value: name })),
      ),
    () => {},
  );
  const wrong = h("p.wrong", { role: "alert" });
  const go = h("button.primary", { type: "submit" }, "Send");
  const answer = h("div.stack", { "aria-live": "polite" });
  const data = field(
    "Data",
    { tag: "textarea", name: "data", spellcheck: "false", value: '{\n  "text": "hello"\n}' },
    "Any JSON value. The server carries it as it is; only handlers look inside.",
  );
  const form = h(
    "form.card",
    {
      oninput: () => {
        const data = control(form, "data");
        const error = problemIn(data.value);
        data.setAttribute("aria-invalid", error ? "true" : "false");
        wrong.textContent = error;
        go.textContent = control(form, "dry").checked ? "Show what would happen" : "Send";
      },
      onsubmit: async (event) => {
        event.preventDefault();
        const type = control(form, "type").value;
        const text = control(form, "data").value;
        const dry = control(form, "dry").checked;
        wrong.textContent = problemIn(text);
        if (wrong.textContent || (!canSend() && !(await askPassword()))) return;
        go.disabled = true;
        try {
          const client = await sender();
          const asked = { route: !dry, dryRun: dry, timeout: 60 };
          const granted = client.features.includes("route");
          const report = await client.send(type, JSON.parse(text), granted ? asked : { timeout: 60 });
          replace(answer, ...reported(report, dry, granted, live));
        } catch (error) {
          wrong.textContent = error.message;
          if (!canSend()) toast("Give your password again to send.", "bad");
        }
        go.disabled = false;
      },
    },
    field("Type", { name: "type", required: true, list: "types", autocomplete: "off" }),
    types,
    data,
    check("Dry run: ask the handlers what they would do, and do nothing", { name: "dry" }),
    wrong,
    h("div.buttons", null, go),
  );
  replace(page, h("h2.hidden", null, "Send a message"), form, answer);
  control(form, "type").focus({ preventScroll: true });
  return null;
}

/** @param {string} text */
function problemIn(text) {
  try {
    JSON.parse(text);
    return "";
  } catch (error) {
    return `Not JSON: ${error.message}`;
  }
}

/** Asks for the password that sending needs; resolves with whether it was given. */
export function askPassword() {
  return ask({
    title: "Your password, to send as yourself",
    action: "Go on",
    body: field(
      `Password of ${session.user}`,
      { name: "password", type: "password", required: true, autocomplete: "current-password" },
      "It is not kept when the page is loaded again.",
    ),
    run: async (form) => givePassword(control(form, "password").value),
  });
}

/**
 * Shows what came of a message.
 *
 * @param {Report} report
 * @param {boolean} dry
 * @param {boolean} granted whether the server tells routes
 * @param {Live} live
 */
export function reported(report, dry, granted, live) {
  return [
    h(
      "section.card",
      { "aria-label": "Report" },
      h("h2", null, dry ? "What would happen" : "Report"),
      h(
        "div.stack",
        null,
        h(
          "p",
          null,
          badge(report.good ? "good" : (report.error?.code ?? "bad"), report.good ? "good" : "bad"),
          " ",
          report.error?.message ?? "",
        ),
        report.route.length
          ? picture(report.route, { user: session.user, server: live.now?.server.name })
          : h("p.muted", null, granted ? "It has no steps." : "This server does not tell the way of a message."),
        !dry && resultList(report.results),
      ),
    ),
  ];
}
