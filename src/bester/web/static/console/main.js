/**
 * The console: signing in, the frame with its views, the keys. A view is a function that gets the page's element and
 * what is behind the `#`, and returns what stops it.
 */

import { ask, h, replace, s, setText } from "../ui/dom.js";
import * as theme from "../ui/theme.js";
import { follow, login, logout, resume, session } from "./api.js";
import { Live } from "./model.js";
import { accounts } from "./views/accounts.js";
import { handlers } from "./views/handlers.js";
import { messages } from "./views/messages.js";
import { now } from "./views/now.js";
import { servers } from "./views/servers.js";

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

const app = document.getElementById("app");
const live = new Live();
let stopView = null;
let stopLive = null;
let frame = null;

// -- signing in -----------------------------------------------------------------------------------------------------

function showSignIn(reason = "") {
  stopView?.();
  stopLive?.();
  stopView = stopLive = frame = null;
  document.title = "Sign in – Bester";
  const wrong = h("p.wrong", { role: "alert" }, reason);
  const go = h("button.primary", { type: "submit" }, "Sign in");
  const username = h("input", {
    id: "username",
    name: "username",
    autocomplete: "username",
    required: true,
    value: session.user ?? "",
  });
  const secret = h("input", {
    id: "password",
    name: "password",
    type: "password",
    autocomplete: "current-password",
    required: true,
  });
  const form = h(
    "form.card",
    {
      onsubmit: async (event) => {
        event.preventDefault();
        go.disabled = true;
        wrong.textContent = "";
        try {
          await login(username.value, secret.value);
          showFrame(true);
        } catch (error) {
          wrong.textContent = error.message;
          go.disabled = false;
          secret.select();
        }
      },
    },
    h("img", { src: "/ui/icon.svg", alt: "" }),
    h("div", null, h("h1", null, "Bester"), h("p.muted", null, "Sign in with an account of the role admin.")),
    h("div.field", null, h("label", { for: "username" }, "Username"), username),
    h("div.field", null, h("label", { for: "password" }, "Password"), secret),
    wrong,
    go,
  );
  replace(app, h("main.sign-in", { id: "main", tabindex: -1 }, form));
  (username.value ? secret : username).focus();
}

// -- the frame --------------------------------------------------------------------------------------------------------

function showFrame(focus = false) {
  const links = Object.entries(VIEWS).map(([name, { title, icon }]) =>
    h(
      "a",
      { href: `#/${name}`, dataset: { name } },
      s("svg", { viewBox: "0 0 24 24", "aria-hidden": "true" }, s("path", { d: icon })),
      title,
    ),
  );
  const server = h("span.server");
  const main = h("main", { id: "main", tabindex: -1 });
  const button = (mark, label, onclick, name) =>
    h(
      "button.quiet",
      { type: "button", onclick, "aria-label": name },
      s("svg", { viewBox: "0 0 24 24", "aria-hidden": "true" }, s("path", { d: mark })),
      h("span.label", null, label),
    );
  frame = { links, main, server };
  replace(
    app,
    h(
      "div.frame",
      null,
      h(
        "header.side",
        null,
        h(
          "div.brand",
          null,
          h("img", { src: "/ui/icon.svg", alt: "" }),
          h("div", null, h("b", null, "Bester"), server),
        ),
        h("nav", { "aria-label": "Views" }, links),
        h(
          "div.foot",
          null,
          h("p.who", null, `Signed in as ${session.user}`),
          button(
            "M12 3a9 9 0 1 0 0 18zM12 3a9 9 0 0 1 0 18",
            "Theme",
            theme.toggle,
            "Theme: switch between dark and light",
          ),
          button("M3 6h18v12H3zM7 10h.01M12 10h.01M17 10h.01M8 14h8", "Keys", showKeys, "Keys: the keyboard shortcuts"),
          button("M14 4h5v16h-5M3 12h11M10 8l4 4-4 4", "Sign out", signOut, "Sign out"),
        ),
      ),
      main,
    ),
  );
  stopLive = follow({
    onhistory: (event) => live.history(event),
    onnow: (event) => live.take(event),
    onstate: (connected) => live.state(connected),
  });
  live.listen(
    () =>
      frame &&
      live.now &&
      setText(frame.server, live.now.server.draining ? `${live.now.server.name} is draining` : live.now.server.name),
  );
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
  if (!frame) return;
  const [name, ...rest] = location.hash.replace(/^#\/?/, "").split("/").map(decode);
  const chosen = VIEWS[name] ? name : "now";
  const { title, view } = VIEWS[chosen];
  stopView?.();
  document.title = `${title} – Bester`;
  for (const link of frame.links) {
    if (link.dataset.name === chosen) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const page = h("div.page");
  const status = h("span");
  const pulse = h("span.pulse", { "aria-hidden": "true" });
  const tools = h("div.buttons");
  replace(
    frame.main,
    h(
      "div.head",
      null,
      h("h1", null, title),
      tools,
      chosen === "now" && h("p.live", { role: "status" }, pulse, status),
    ),
    page,
  );
  const tell = () => {
    pulse.classList.toggle("off", !live.connected);
    setText(status, live.connected ? "live" : "no connection; trying again");
  };
  tell();
  const unlisten = live.listen(tell);
  const stop = view({ page, tools, live, rest });
  stopView = () => {
    unlisten();
    stop?.();
  };
  scrollTo(0, 0);
  if (focus) frame.main.focus({ preventScroll: true });
}

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
  if (!frame || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (event.target.closest?.("input:not([type=checkbox]), textarea, select")) return;
  const view = Object.entries(VIEWS).find(([, { key }]) => key === event.key);
  if (view) location.hash = `#/${view[0]}`;
  else if (event.key === "?") showKeys();
  else if (event.key === "t") theme.toggle();
  else if (event.key === "c") location.hash = "#/messages/send";
  else if (event.key === "/") frame.main.querySelector("[data-search]")?.focus();
  else return;
  event.preventDefault();
});

document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // the hash is the router's
  document.getElementById("main")?.focus();
});

addEventListener("hashchange", () => {
  if (!document.querySelector("dialog[open]")) return showView();
  for (const dialog of document.querySelectorAll("dialog[open]")) dialog.close();
  return showView();
});

// -- the start ----------------------------------------------------------------------------------------------------------

session.onended = () => frame && showSignIn("Your session has ended. Sign in again.");
theme.start();
try {
  await resume();
  showFrame();
} catch {
  showSignIn();
}
