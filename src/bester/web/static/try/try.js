/** The page for trying things out: sign in, send, and see the reports and replies. It is bester.js and little more. */

import { Client } from "../js/bester.js";
import { Answer, shownJson } from "../ui/answer.js";
import { DataForm, firstValue, sampleButtons } from "../ui/data-form.js";
import { badge, byId, check, control, empty, field, h, replace, setText, toast } from "../ui/dom.js";
import { clock, millis } from "../ui/format.js";
import { Header } from "../ui/header.js";
import { kindOf, picture } from "../ui/route.js";
import { askWho } from "../ui/sign-in.js";

/** @import { Message, Report } from "../js/bester.js" */
/** @import { Child } from "../ui/dom.js" */

const MOST_ENTRIES = 100;
const HINT = "With any account of this server, as which messages are sent. You see what handlers reply to them.";

const main = byId("main");
const header = new Header({ title: "Try Bester", onSignOut: signOut });
/** @type {Client | null} */
let client = null;
let user = "";
/** @type {HTMLElement | null} */
let log = null;
/** @type {{element: HTMLElement, shown: () => void}[]} */
const waiting = [];
let data = new DataForm(null);
/** Whether somebody has changed the data. */
let touched = false;

showSignIn();

function showSignIn(reason = "") {
  header.signedOut();
  const more = check("Take the account's other messages too: out of its mailbox, and away from its other programs", {
    name: "mail",
  });
  askWho({ hint: HINT, reason, more, signIn });
}

async function signOut() {
  const old = client;
  client = null;
  await old?.logout().catch(() => old.close());
  showSignIn();
}

/**
 * @param {string} username
 * @param {string} password
 * @param {HTMLFormElement} form
 */
async function signIn(username, password, form) {
  const next = new Client(undefined, { username, password, mail: control(form, "mail").checked });
  const here = () => `${username} at ${next.server ?? "this server"}`;
  next.onmessage = (message) => add(received(message)); // so it is acknowledged when it is shown
  next.onstate = (now, error) => {
    if (client !== next) return;
    const words = {
      open: here(),
      connecting: "connecting…",
      waiting: "no connection; trying again",
      closed: "signed out",
    };
    header.say(words[now]);
    if (now === "closed" && error) {
      client = null;
      showSignIn(error.message);
    }
  };
  await next.open(); // the messages in the mailbox come after it
  const desk = showDesk();
  client = next;
  user = username;
  header.signedIn();
  header.say(here());
  /** @type {string[]} */
  const names = await next.builtin("listTypes").catch(() => []);
  replace(
    byId("types"),
    names.slice(0, 200).map((name) => h("option", { value: name })),
  );
  const type = control(desk, "type");
  if (!type.value && names.length) type.value = names[0];
  describe(desk);
  type.focus();
}

/**
 * Shows what the handlers of the form's type say of it, with the fields of its data, and offers their samples.
 *
 * @param {HTMLFormElement} form
 */
async function describe(form) {
  const place = byId("about");
  const type = control(form, "type").value;
  /** @type {any[]} */
  const [row] = type && client ? await client.builtin("describe", { type }).catch(() => []) : [];
  if (control(form, "type").value !== type || !form.isConnected) return;
  const put = (/** @type {any} */ value) => {
    data.set(value);
    touched = false;
  };
  replace(
    place,
    row?.version && h("p", null, badge(row.version, "accent")),
    row?.description && h("p.words", null, row.description),
    row?.samples.length > 0 && sampleButtons(row.samples, put),
  );
  data.describe(row?.request ?? null);
  if (row && !touched && (row.samples.length || row.request !== null)) put(firstValue(row));
}

// -- the desk -------------------------------------------------------------------------------------------------------

/** Shows the form for sending, which it returns, and the log. */
function showDesk() {
  data = new DataForm({ text: "hello" }, "Any JSON value. Ctrl and Enter send it.");
  data.element.addEventListener("input", () => (touched = true));
  touched = false;
  const go = h("button.primary", { type: "submit" }, "Send");
  const form = h(
    "form.card",
    {
      oninput: () => {
        setText(go, control(form, "dry").checked ? "Show what would happen" : "Send");
      },
      onsubmit: (event) => {
        event.preventDefault();
        const value = data.read();
        if (value === undefined) return;
        send(control(form, "type").value, value, control(form, "once").checked, control(form, "dry").checked);
      },
      onkeydown: (event) => {
        if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
      },
    },
    h("h2", null, "Send a message"),
    field("Type", { name: "type", required: true, list: "types", autocomplete: "off", onchange: () => describe(form) }),
    h("datalist", { id: "types" }),
    h("div.stack", { id: "about", "aria-live": "polite" }),
    data.element,
    h(
      "div",
      null,
      check("Dry run: do nothing, tell what would happen", { name: "dry" }),
      h("br"),
      check("Once: sent again over a lost connection, handled once", { name: "once" }),
    ),
    h("div.buttons", null, go),
  );
  log = h("div", { id: "log", role: "log", "aria-label": "What came of it", "aria-live": "polite" });
  replace(
    log,
    h(
      "div.card.none",
      null,
      empty("Nothing yet", "Reports on what you send, and the messages that handlers send to you, appear here."),
    ),
  );
  replace(main, form, log);
  return form;
}

/**
 * @param {string} type
 * @param {any} value
 * @param {boolean} once
 * @param {boolean} dry
 */
async function send(type, value, once, dry) {
  if (!client) return undefined;
  const told = client.features.includes("route");
  if (dry && !told) return toast("This server does not grant dry runs.", "bad");
  const begun = performance.now();
  const coming = once || dry ? null : new Answer();
  const body = h("div", null, h("p.muted", null, "Waiting for the report…"));
  if (coming) replace(body, coming.element);
  add(entry("sent", [badge(dry ? "dry run" : "sent"), h("b", null, type)], body));
  try {
    const report = coming
      ? await coming.run(client, type, value)
      : await client.send(type, value, { once, route: told && !dry, dryRun: dry });
    const answer = coming && (coming.number || !report) && coming.element;
    replace(body, answer, report && reported(report, performance.now() - begun, dry));
  } catch (error) {
    const wrong = h("p.wrong", null, `${error.message} (${error.code ?? error.name})`);
    replace(body, coming?.number ? coming.element : null, wrong);
  }
  return undefined;
}

/**
 * @param {Report} report
 * @param {number} ms
 * @param {boolean} dry
 */
function reported(report, ms, dry) {
  return h(
    "div.stack",
    null,
    h(
      "p",
      null,
      badge(report.good ? "good" : (report.error?.code ?? "bad"), report.good ? "good" : "bad"),
      " ",
      report.error?.message ?? "",
      h("span.muted", null, ` after ${millis(ms)}`),
    ),
    report.route.length > 0 && picture(report.route, { user, server: client?.server }),
    !dry &&
      report.results.length > 0 &&
      h(
        "p",
        null,
        report.results
          .slice(0, 20)
          .map(({ to, status }) => [h("span", null, to), " ", badge(status, kindOf(status)), " "]),
        report.results.length > 20 && `and ${report.results.length - 20} more`,
      ),
    report.data !== undefined && h("pre", null, shownJson(report.data)),
  );
}

/** @param {Message} message */
function received({ type, data }) {
  return entry("got", [badge("received", "accent"), h("b", null, type)], h("pre", null, shownJson(data)));
}

/**
 * @param {"sent" | "got"} kind
 * @param {Child} line
 * @param {Child} body
 */
function entry(kind, line, body) {
  const time = Date.now() / 1000;
  return h(`article.card.entry.${kind}`, null, h("div.line", null, line, h("time", null, clock(time))), body);
}

/**
 * Adds an entry to the log, the newest first. However many come, the page changes once a frame, and keeps a hundred.
 * Resolves when the entry is shown; until then the message is not acknowledged, which bounds how many the server sends.
 *
 * @param {HTMLElement} element
 * @returns {Promise<void>}
 */
function add(element) {
  return new Promise((shown) => {
    waiting.push({ element, shown });
    if (waiting.length === 1) requestAnimationFrame(show);
  });
}

function show() {
  const entries = waiting.splice(0, MOST_ENTRIES).reverse();
  if (log) {
    log.querySelector(".none")?.remove();
    log.prepend(...entries.map((one) => one.element));
    while (log.children.length > MOST_ENTRIES) log.lastElementChild?.remove();
  }
  for (const one of entries) one.shown();
  if (waiting.length) requestAnimationFrame(show);
}
