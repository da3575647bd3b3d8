/** The chat page: conversations on the left, messages on the right. */

import { askWho, startBar } from "../ui/desk.js";
import { empty, h, replace, setText, toast } from "../ui/dom.js";
import * as dialogs from "./dialogs.js";
import { called, isRoom, keyOf } from "./mirror.js";
import { below, item, Lines } from "./pieces.js";
import { Talk } from "./talk.js";

const KEPT = "bester:chat";
const MAX_TEXT = 8000;
const FEW = 30;
const WORDS = {
  connecting: "connecting…",
  open: "",
  waiting: "No connection; trying again. What you write is sent when it is back.",
  noChat: "The server has no chat just now; trying again.",
  closed: "",
};
const main = document.getElementById("main");
const state = document.getElementById("state");
const leave = document.getElementById("leave");
const lines = new Lines();

/** @type {Talk | null} */
let talk = null;
let current = "";
let newAfter = null;
let loading = false;
let parts = null;
const pending = new Map();
const drafts = new Map();

startBar();
leave.addEventListener("click", async () => {
  const old = talk;
  forget();
  await old?.client.logout().catch(() => old.close());
  showSignIn();
});
document.addEventListener("visibilitychange", () => readIt());
document.addEventListener("keydown", (event) => {
  if (!talk || !event.altKey || !["ArrowUp", "ArrowDown"].includes(event.key)) return;
  event.preventDefault();
  const names = talk.mirror.listed().map((one) => one.talk.with);
  const at = names.indexOf(current) + (event.key === "ArrowDown" ? 1 : -1);
  if (names.length) show(names[(at + names.length) % names.length]);
});
start();

// -- signing in -----------------------------------------------------------------------------------------------------

async function start() {
  let kept = null;
  try {
    kept = JSON.parse(sessionStorage.getItem(KEPT));
  } catch {
    // Without a storage one signs in after each reload.
  }
  if (!kept?.token) return showSignIn();
  try {
    await signIn(kept);
  } catch (error) {
    showSignIn(error.code === "authenticationFailed" ? "" : error.message);
  }
  return undefined;
}

function keep(username) {
  try {
    sessionStorage.setItem(KEPT, JSON.stringify({ username, token: talk.client.token }));
  } catch {
    // See above.
  }
}

function forget() {
  talk = null;
  parts = null;
  current = "";
  pending.clear();
  drafts.clear();
  lines.clear();
  try {
    sessionStorage.removeItem(KEPT);
  } catch {
    // Nothing was kept.
  }
}

function showSignIn(reason = "") {
  leave.hidden = true;
  document.title = "Chat";
  document.body.classList.remove("chatting", "talking");
  setText(state, "not signed in");
  const hint = "With your account of this server. You can talk with people of other servers, too.";
  askWho(hint, reason, (username, password) => signIn({ username, password }));
}

async function signIn({ username, password, token }) {
  const next = new Talk({
    username,
    password,
    token,
    onchange: (what) => talk === next && changed(what),
    onnotice: (about, message) => toast(`${about}: ${message}`, "bad"),
    onend: (error) => {
      if (talk !== next) return;
      forget();
      showSignIn(error?.message ?? "");
    },
  });
  await next.open();
  talk = next;
  keep(username);
  showDesk();
}

// -- the desk -------------------------------------------------------------------------------------------------------

function showDesk() {
  leave.hidden = false;
  document.body.classList.add("chatting");
  const list = h("ul", { "aria-label": "Conversations" });
  const log = h("div.log", { role: "log", "aria-label": "Messages", tabindex: "0", onscroll: scrolled });
  const text = h("textarea", {
    rows: "1",
    maxlength: MAX_TEXT,
    "aria-label": "Message",
    placeholder: "Write a message",
    oninput: grow,
    onkeydown: (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      form.requestSubmit();
    },
  });
  const form = h(
    "form.compose",
    {
      onsubmit: (event) => {
        event.preventDefault();
        send();
      },
    },
    text,
    h("button.primary", { type: "submit" }, "Send"),
  );
  const title = h("div.title");
  const banner = h("p.banner", { role: "status" });
  const pane = h("section.pane", { "aria-label": "Conversation" }, title, log, banner, form);
  parts = { list, log, text, form, title, banner };
  replace(
    main,
    h(
      "nav.side",
      { "aria-label": "Conversations" },
      h(
        "div.buttons",
        null,
        h("button.small", { type: "button", onclick: () => dialogs.newChat(talk).then(show) }, "New chat"),
        h("button.small", { type: "button", onclick: () => dialogs.newRoom(talk).then(show) }, "New room"),
      ),
      list,
    ),
    pane,
  );
  changed("state");
  showTitle();
  showLines();
}

function changed(what) {
  if (!parts) return;
  if (what === "state") {
    setText(state, talk.you);
    setText(parts.banner, WORDS[talk.state] ?? "");
    fill();
    return;
  }
  setText(state, talk.you);
  showList();
  showTitle();
  if (what === "entries" || what === "talks") showLines();
  fill();
  if (!current && talk.mirror.conversations.size && matchMedia("(min-width: 761px)").matches) {
    show(talk.mirror.listed()[0].talk.with);
  }
}

function showList() {
  const found = talk.mirror.listed();
  const unread = found.reduce((sum, one) => sum + one.talk.unread, 0);
  document.title = unread ? `(${unread}) Chat` : "Chat";
  if (!found.length) {
    replace(parts.list, h("li", null, empty("Nobody yet", "New chat begins a conversation with anybody, at any server.")));
    return;
  }
  replace(
    parts.list,
    found.map((one) =>
      item(one, talk.mirror, { current: one.talk.with === current, onclick: () => show(one.talk.with) }),
    ),
  );
}

function showTitle() {
  const { mirror } = talk;
  parts.form.hidden = !current;
  if (!current) {
    replace(parts.title, h("h2", null, "No conversation is open"));
    return;
  }
  const one = mirror.conversation(current);
  const room = isRoom(current);
  const { status, topic, members } = one.talk;
  let words = mirror.online.has(current) ? "here" : "away";
  if (mirror.blocked.includes(current)) words = "blocked";
  if (room) words = status === "joined" ? `${members} ${members === 1 ? "member" : "members"}` : below(one, mirror);
  const button = (label, onclick, kind = "small") =>
    h(`button.${kind}`, { type: "button", onclick, "data-focus": label }, label);
  const actions = [];
  if (!room) {
    const blocked = mirror.blocked.includes(current);
    actions.push(button(blocked ? "Unblock" : "Block", () => attempt(() => talk.block(current, !blocked))));
  } else if (status === "joined") {
    actions.push(button("Members", () => attempt(() => dialogs.members(talk, current))));
    actions.push(button("Invite", () => dialogs.invite(talk, current)));
    actions.push(button("Leave", () => dialogs.leaveRoom(talk, current)));
  } else if (status !== "asked") {
    actions.push(button("Join", () => attempt(() => talk.room("join", current))));
    if (status === "invited") actions.push(button("Decline", () => attempt(() => talk.room("leave", current))));
  }
  parts.form.hidden = room && status !== "joined";
  replace(
    parts.title,
    h("button.small.back", { type: "button", "aria-label": "Back to the conversations", onclick: back }, "←"),
    h(
      "div.who",
      null,
      h("h2", null, called(current, talk.you)),
      h("p.muted", null, h(`span${words === "here" ? ".is-here" : ""}`, null, words), topic && ` · ${topic}`),
    ),
    h("div.buttons", null, actions),
  );
}

function showLines() {
  const { log } = parts;
  if (!current) {
    lines.clear();
    replace(log, empty("Choose a conversation", "Or begin one: people are called user@server."));
    return;
  }
  const one = talk.mirror.conversation(current);
  const waiting = (pending.get(current) ?? []).filter((entry) => !one.entries.has(keyOf(entry)));
  pending.set(current, waiting);
  const atEnd = isAtEnd();
  const fromEnd = log.scrollHeight - log.scrollTop;
  const height = log.scrollHeight;
  lines.show(log, [...talk.mirror.lines(current), ...waiting], {
    you: talk.you,
    room: isRoom(current),
    complete: one.complete,
    newAfter,
  });
  if (atEnd) log.scrollTop = log.scrollHeight;
  else if (log.scrollHeight !== height && loading) log.scrollTop = log.scrollHeight - fromEnd;
  readIt();
}

const isAtEnd = () => parts.log.scrollHeight - parts.log.scrollTop - parts.log.clientHeight < 40;

function readIt() {
  if (!talk || !current || document.hidden || !isAtEnd() || !isSeen()) return;
  if (talk.state === "open" && talk.mirror.conversation(current).talk.unread) talk.read(current).catch(() => {});
}

/** On a phone the conversation is only there when it is gone to. */
const isSeen = () => parts.log.offsetParent !== null;

function show(name) {
  if (!name) return;
  if (current) drafts.set(current, parts.text.value);
  current = name;
  document.body.classList.add("talking");
  const one = talk.mirror.conversation(name);
  newAfter = one.talk.unread ? one.talk.read : null;
  lines.clear();
  replace(parts.log);
  parts.text.value = drafts.get(name) ?? "";
  grow();
  showList();
  showTitle();
  showLines();
  if (!parts.form.hidden && matchMedia("(pointer: fine)").matches) parts.text.focus();
  fill();
}

/** A conversation that is open has at least so much that one can scroll. */
function fill() {
  if (!current) return;
  const one = talk.mirror.conversation(current);
  if (one.entries.size < FEW && !one.complete) more();
}

function back() {
  document.body.classList.remove("talking");
  parts.list.querySelector('[aria-current="true"]')?.focus();
}

async function more() {
  if (loading || talk.state !== "open") return;
  loading = true;
  await talk.load(current).catch((error) => toast(error.message, "bad"));
  loading = false;
}

function scrolled() {
  if (!current) return;
  if (parts.log.scrollTop < 80 && !talk.mirror.conversation(current).complete) more();
  readIt();
}

// -- what people do -------------------------------------------------------------------------------------------------

function grow() {
  parts.text.rows = Math.min(8, parts.text.value.split("\n").length);
}

async function send() {
  const text = parts.text.value.replace(/^\n+|\n+$/g, "");
  if (!text.trim() || !current) return;
  const name = current;
  const id = crypto.randomUUID?.() ?? `${Date.now()}-${Math.random()}`;
  const entry = { pos: Infinity, with: name, from: talk.you, id, time: Date.now(), text };
  pending.set(name, [...(pending.get(name) ?? []), entry]);
  parts.text.value = "";
  drafts.delete(name);
  grow();
  showLines();
  parts.log.scrollTop = parts.log.scrollHeight;
  try {
    await talk.send(name, text, id);
  } catch (error) {
    entry.state = "failed";
    entry.reason = error.message;
  }
  if (parts) showLines();
}

async function attempt(work) {
  try {
    await work();
  } catch (error) {
    toast(error.message, "bad");
  }
  if (parts) changed("talks");
}
