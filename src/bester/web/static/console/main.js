/**
 * The console: signing in, the views, the keys. A view is a function that fills an element, and returns a function that
 * stops it.
 */

import { ask, byId, h, replace, s, setText } from "../ui/dom.js";
import { Header, headerButton } from "../ui/header.js";
import { askWho } from "../ui/sign-in.js";
import * as theme from "../ui/theme.js";
import { follow, login, logout, resume, session } from "./api.js";
import { Live } from "./model.js";
import { accounts } from "./views/accounts.js";
import { handlers } from "./views/handlers.js";
import { messages } from "./views/messages.js";
import { now } from "./views/now.js";
import { servers } from "./views/servers.js";

/** @import { Place } from "./model.js" */

/** @type {Record<string, {title: string, key: string, view: (place: Place) => (() => void) | null, icon: string}>} */
const VIEWS = {
  now: { title: "Now", key: "n", view: now, icon: "M3 12h4l3-8 4 16 3-8h4" },
  messages: { title: "Messages", key: "m", view: messages, icon: "M4 5h16v11H9l-5 4z" },
  handlers: { title: "Handlers", key: "h", view: handlers, icon: "M4 4h7v7H4zM13 13h7v7h-7zM13 4h7v7h-7zM4 13h7v7H4z" },
  servers: { title: "Servers", key: "s", view: servers, icon: "M4 4h16v6H4zM4 14h16v6H4zM8 7h.01M8 17h.01" },
  accounts: {
    title: "Accounts",
    key: "a",
    view: accounts,
    icon: "M12 4a4 4 0 1 0 0 8 4 4 0 0 0 0-8M4 20c0-4 4-6 8-6s8 2 8 6",
  },
};

const KEYS = "M3 6h18v12H3zM7 10h.01M12 10h.01M17 10h.01M8 14h8";

const main = byId("main");
const live = new Live();
const header = new Header({ title: "Bester", isHeading: false, onSignOut: signOut });
/** @type {HTMLAnchorElement[]} */
let links = [];
/** @type {(() => void) | null} */
let stopView = null;
/** @type {(() => void) | null} */
let stopLive = null;

const isSignedIn = () => stopLive !== null;

// -- signing in -----------------------------------------------------------------------------------------------------

function showSignIn(reason = "") {
  stopView?.();
  stopLive?.();
  stopView = stopLive = null;
  document.title = "Sign in – Bester";
  document.body.classList.remove("framed");
  header.signedOut();
  askWho({
    hint: "With an account of the role admin.",
    reason,
    username: session.user ?? "",
    signIn: async (username, password) => {
      await login(username, password);
      showDesk(true);
    },
  });
}

// -- the desk -------------------------------------------------------------------------------------------------------

function showDesk(focus = false) {
  links = Object.entries(VIEWS).map(([name, { title, icon }]) =>
    h(
      "a",
      { href: `#/${name}`, dataset: { name } },
      s("svg", { viewBox: "0 0 24 24", "aria-hidden": "true" }, s("path", { d: icon })),
      title,
    ),
  );
  document.body.classList.add("framed");
  header.say("");
  header.signedIn({
    middle: [h("nav", { "aria-label": "Views" }, links)],
    more: [
      h("p.who", null, `Signed in as ${session.user}`),
      headerButton(KEYS, "Keys", "Keys: the keyboard shortcuts", showKeys),
    ],
  });
  const stopEvents = follow({
    onhistory: (event) => live.history(event),
    onnow: (event) => live.take(event),
    onstate: (connected) => live.state(connected),
  });
  const unlisten = live.listen(() => {
    const server = live.now?.server;
    if (server) header.say(server.draining ? `${server.name} is draining` : server.name);
  });
  stopLive = () => {
    unlisten();
    stopEvents();
  };
  showView(focus);
}

async function signOut() {
  try {
    await logout();
  } catch {
    // The cookie ends with its time.
  }
  session.user = null;
  showSignIn();
}

function showView(focus = true) {
  if (!isSignedIn()) return;
  const [name, ...rest] = location.hash.replace(/^#\/?/, "").split("/").map(decode);
  const chosen = VIEWS[name] ? name : "now";
  const { title, view } = VIEWS[chosen];
  stopView?.();
  document.title = `${title} – Bester`;
  for (const link of links) {
    if (link.dataset.name === chosen) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const page = h("div.page");
  const status = h("span");
  const pulse = h("span.pulse", { "aria-hidden": "true" });
  const tools = h("div.buttons");
  replace(
    main,
    h(
      "div.head",
      null,
      h("h1", null, title),
      tools,
      chosen === "now" && h("p.live", { role: "status" }, pulse, status),
    ),
    page,
  );
  const showState = () => {
    pulse.classList.toggle("off", !live.connected);
    setText(status, live.connected ? "live" : "no connection; trying again");
  };
  showState();
  const unlisten = live.listen(showState);
  const stop = view({ page, tools, live, rest });
  stopView = () => {
    unlisten();
    stop?.();
  };
  scrollTo(0, 0);
  if (focus) main.focus({ preventScroll: true });
}

/** @param {string} part */
function decode(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

// -- keys ---------------------------------------------------------------------------------------------------------------

function showKeys() {
  const keys = [
    ...Object.values(VIEWS).map(({ key, title }) => [key, title]),
    ["/", "Search or filter"],
    ["c", "Compose a message"],
    ["t", "Dark or light"],
    ["?", "This list"],
    ["Esc", "Close a dialog"],
  ];
  const list = h(
    "dl.keys",
    null,
    keys.map(([key, what]) => [h("dt", null, h("kbd", null, key)), h("dd", null, what)]),
  );
  ask({ title: "Keyboard shortcuts", body: list, action: "Close" });
}

document.addEventListener("keydown", (event) => {
  if (!isSignedIn() || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (event.target instanceof Element && event.target.closest("input:not([type=checkbox]), textarea, select")) return;
  const view = Object.entries(VIEWS).find(([, { key }]) => key === event.key);
  if (view) location.hash = `#/${view[0]}`;
  else if (event.key === "?") showKeys();
  else if (event.key === "t") theme.toggle();
  else if (event.key === "c") location.hash = "#/messages/send";
  else if (event.key === "/") focusSearch();
  else return;
  event.preventDefault();
});

function focusSearch() {
  const search = /** @type {HTMLElement | null} */ (main.querySelector("[data-search]"));
  search?.focus();
}

addEventListener("hashchange", () => {
  for (const dialog of document.querySelectorAll("dialog")) if (dialog.open) dialog.close();
  showView();
});

// -- the start ----------------------------------------------------------------------------------------------------------

session.onended = () => isSignedIn() && showSignIn("Your session has ended. Sign in again.");
try {
  await resume();
  showDesk();
} catch {
  showSignIn();
}
