/** The page for trying things out: sign in, send, and see what comes of it. It is bester.js and little more. */

import { Client } from "../js/bester.js";
import { askWho, startBar } from "../ui/desk.js";
import { badge, check, empty, field, h, replace, setText, toast } from "../ui/dom.js";
import { clock, millis } from "../ui/format.js";
import { kindOf, picture } from "../ui/route.js";

const MOST_ENTRIES = 100;
const MOST_TEXT = 20_000;
const main = document.getElementById("main");
const state = document.getElementById("state");
const leave = document.getElementById("leave");

/** @type {Client | null} */
let client = null;
let user = "";
let log = null;
const waiting = [];

startBar();
leave.addEventListener("click", async () => {
  const old = client;
  client = null;
  await old?.logout().catch(() => old.close());
  showSignIn();
});
showSignIn();

function showSignIn(reason = "") {
  leave.hidden = true;
  setText(state, "not signed in");
  askWho(
    "With any account of this server, as which messages are sent. You see what handlers reply to them.",
    reason,
    signIn,
    check("Take the account's other messages too: out of its mailbox, and away from its other programs", {
      name: "mail",
    }),
  );
}

async function signIn(username, password, form) {
  const next = new Client(undefined, { username, password, mail: form.elements.mail.checked });
  next.onmessage = (message) => add(received(message)); // and so it is acknowledged when it is shown
  next.onstate = (now, error) => {
    if (client !== next) return;
    const words = {
      open: `${username} at ${next.server ?? "this server"}`,
      connecting: "connecting…",
      waiting: "no connection; trying again",
      closed: "signed out",
    };
    setText(state, words[now]);
    if (now === "closed" && error) {
      client = null;
      showSignIn(error.message);
    }
  };
  await next.open(); // what waits in the mailbox comes after it
  showDesk();
  client = next;
  user = username;
  leave.hidden = false;
  setText(state, `${username} at ${next.server ?? "this server"}`);
  const names = await next.builtin("listTypes").catch(() => []);
  replace(
    document.getElementById("types"),
    names.slice(0, 200).map((name) => h("option", { value: name })),
  );
  const type = main.querySelector('[name="type"]');
  if (!type.value && names.length) type.value = names[0];
  type.focus();
}

// -- the desk -------------------------------------------------------------------------------------------------------

function showDesk() {
  const wrong = h("p.wrong", { role: "alert" });
  const go = h("button.primary", { type: "submit" }, "Send");
  const form = h(
    "form.card",
    {
      oninput: () => {
        const error = problemIn(form.elements.data.value);
        form.elements.data.setAttribute("aria-invalid", error ? "true" : "false");
        wrong.textContent = error;
        setText(go, form.elements.dry.checked ? "Show what would happen" : "Send");
      },
      onsubmit: (event) => {
        event.preventDefault();
        const { type, data, once, dry } = form.elements;
        wrong.textContent = problemIn(data.value);
        if (!wrong.textContent) send(type.value, JSON.parse(data.value), once.checked, dry.checked);
      },
      onkeydown: (event) => {
        if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
      },
    },
    h("h2", null, "Send a message"),
    field("Type", { name: "type", required: true, list: "types", autocomplete: "off" }),
    h("datalist", { id: "types" }),
    field(
      "Data",
      { tag: "textarea", name: "data", spellcheck: "false", value: '{\n  "text": "hello"\n}' },
      "Any JSON value. Ctrl and Enter send it.",
    ),
    h(
      "div",
      null,
      check("Dry run: do nothing, tell what would happen", { name: "dry" }),
      h("br"),
      check("Once: sent again over a lost connection, handled once", { name: "once" }),
    ),
    wrong,
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
}

function problemIn(text) {
  try {
    JSON.parse(text);
    return "";
  } catch (error) {
    return `Not JSON: ${error.message}`;
  }
}

async function send(type, data, once, dry) {
  const told = client.features.includes("route");
  if (dry && !told) return toast("This server does not grant dry runs.", "bad");
  const begun = performance.now();
  const body = h("div", null, h("p.muted", null, "Waiting for the report…"));
  add(entry("sent", [badge(dry ? "dry run" : "sent"), h("b", null, type)], body));
  try {
    const report = await client.send(type, data, { once, route: told && !dry, dryRun: dry });
    replace(body, reported(report, performance.now() - begun, dry));
  } catch (error) {
    replace(body, h("p.wrong", null, `${error.message} (${error.code ?? error.name})`));
  }
  return undefined;
}

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

function received({ type, data }) {
  return entry("got", [badge("received", "accent"), h("b", null, type)], h("pre", null, shownJson(data)));
}

function shownJson(data) {
  const text = JSON.stringify(data, null, 2);
  return text.length > MOST_TEXT ? `${text.slice(0, MOST_TEXT)}\n…` : text;
}

function entry(kind, line, body) {
  const time = Date.now() / 1000;
  return h(`article.card.entry.${kind}`, null, h("div.line", null, line, h("time", null, clock(time))), body);
}

/**
 * Shows the newest first; however many come, the page is touched once a frame, and keeps a hundred. Resolves when the
 * element is shown; the server sends only so many that are not acknowledged before that.
 */
function add(element) {
  return new Promise((shown) => {
    waiting.push({ element, shown });
    if (waiting.length === 1) requestAnimationFrame(show);
  });
}

function show() {
  const entries = waiting.splice(0, MOST_ENTRIES).reverse();
  log?.querySelector(".none")?.remove();
  log?.prepend(...entries.map((one) => one.element));
  while (log?.children.length > MOST_ENTRIES) log.lastChild.remove();
  for (const one of entries) one.shown();
  if (waiting.length) requestAnimationFrame(show);
}
