/**
 * The chat page: conversations on the left, messages on the right.
 *
 * A `Page` is there as long as the document, and signs people in and out. A `Desk` is one account's stay: it owns the
 * `Talk` and everything that is forgotten when the account signs out.
 */

import { byId, empty, h, replace, setText, toast } from "../ui/dom.js";
import { Header } from "../ui/header.js";
import { askWho } from "../ui/sign-in.js";
import * as dialogs from "./dialogs.js";
import { called, isRoom, keyOf } from "./mirror.js";
import { below, item, Lines } from "./pieces.js";
import { Talk } from "./talk.js";

/** @import { Entry } from "./mirror.js" */
/** @import { Changed } from "./talk.js" */

/** @typedef {{username: string, password?: string, token?: string}} Credentials */

const KEPT = "bester:chat";
const HINT = "With your account of this server. You can talk with people of other servers, too.";
const MAX_TEXT = 8000;
const FEW = 30;
const BANNERS = {
  connecting: "connecting…",
  open: "",
  waiting: "No connection; trying again. What you write is sent when it is back.",
  noChat: "The server has no chat just now; trying again.",
  closed: "",
};

class Page {
  /** @type {Desk | null} */
  #desk = null;
  #header = new Header({ title: "Chat", onSignOut: () => this.#signOut() });

  /** Continues the session that the tab remembers, or asks for an account. */
  async start() {
    document.addEventListener("visibilitychange", () => this.#desk?.markRead());
    document.addEventListener("keydown", (event) => {
      if (!this.#desk || !event.altKey || !["ArrowUp", "ArrowDown"].includes(event.key)) return;
      event.preventDefault();
      this.#desk.showNext(event.key === "ArrowDown" ? 1 : -1);
    });
    const credentials = recall();
    if (!credentials) return this.#showSignIn();
    try {
      await this.#signIn(credentials);
    } catch (error) {
      this.#showSignIn(error.code === "authenticationFailed" ? "" : error.message);
    }
    return undefined;
  }

  #showSignIn(reason = "") {
    document.title = "Chat";
    document.body.classList.remove("chatting", "talking");
    this.#header.signedOut();
    askWho({ hint: HINT, reason, signIn: (username, password) => this.#signIn({ username, password }) });
  }

  /** @param {Credentials} credentials */
  async #signIn(credentials) {
    const talk = new Talk({
      ...credentials,
      onchange: (what) => this.#desk?.talk === talk && this.#desk.changed(what),
      onnotice: (about, message) => toast(`${about}: ${message}`, "bad"),
      onend: (error) => {
        if (this.#desk?.talk !== talk) return;
        this.#forget();
        this.#showSignIn(error?.message);
      },
    });
    await talk.open();
    remember({ username: credentials.username, token: talk.client.token });
    this.#header.signedIn();
    this.#desk = new Desk(talk, this.#header);
    this.#desk.start();
  }

  async #signOut() {
    const talk = this.#desk?.talk;
    this.#forget();
    await talk?.client.logout().catch(() => talk.close());
    this.#showSignIn();
  }

  #forget() {
    this.#desk = null;
    remember(null);
  }
}

class Desk {
  #header;
  /** The name of the open conversation, or "". */
  #current = "";
  /**
   * The place behind which the open conversation's entries are new, or null.
   *
   * @type {number | null}
   */
  #newAfter = null;
  #loading = false;
  /**
   * Your messages that are on their way, by their conversations.
   *
   * @type {Map<string, Entry[]>}
   */
  #pending = new Map();
  /**
   * Texts that are not sent yet, by their conversations.
   *
   * @type {Map<string, string>}
   */
  #drafts = new Map();
  #lines = new Lines();
  #list = h("ul", { "aria-label": "Conversations" });
  #title = h("div.title");
  #log = h("div.log", { role: "log", "aria-label": "Messages", tabindex: "0", onscroll: () => this.#scrolled() });
  #banner = h("p.banner", { role: "status" });
  #text = h("textarea", {
    rows: "1",
    maxlength: MAX_TEXT,
    "aria-label": "Message",
    placeholder: "Write a message",
    oninput: () => this.#grow(),
    onkeydown: (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      this.#form.requestSubmit();
    },
  });
  /** @type {HTMLFormElement} */
  #form = h(
    "form.compose",
    {
      onsubmit: (event) => {
        event.preventDefault();
        this.#send();
      },
    },
    this.#text,
    h("button.primary", { type: "submit" }, "Send"),
  );

  /**
   * @param {Talk} talk an open one
   * @param {Header} header
   */
  constructor(talk, header) {
    this.talk = talk;
    this.#header = header;
  }

  /** Shows the desk, in place of the page's content. */
  start() {
    const button = (/** @type {string} */ label, /** @type {(talk: Talk) => Promise<string | undefined>} */ choose) =>
      h("button.small", { type: "button", onclick: async () => this.#show(await choose(this.talk)) }, label);
    document.body.classList.add("chatting");
    replace(
      byId("main"),
      h(
        "nav.side",
        { "aria-label": "Conversations" },
        h("div.buttons", null, button("New chat", dialogs.newChat), button("New room", dialogs.newRoom)),
        this.#list,
      ),
      h("section.pane", { "aria-label": "Conversation" }, this.#title, this.#log, this.#banner, this.#form),
    );
    this.changed("state");
    this.#showTitle();
    this.#showLines();
  }

  /** @param {Changed} what */
  changed(what) {
    const { talk } = this;
    this.#header.say(talk.you);
    if (what === "state") {
      setText(this.#banner, BANNERS[talk.state]);
      this.#fill();
      return;
    }
    this.#showList();
    this.#showTitle();
    if (what === "entries" || what === "talks") this.#showLines();
    this.#fill();
    if (!this.#current && talk.mirror.conversations.size && matchMedia("(min-width: 761px)").matches) {
      this.#show(talk.mirror.listed()[0].talk.with);
    }
  }

  /** Marks the open conversation as read, if its end can be seen. */
  markRead() {
    if (!this.#current || document.hidden || !this.#isAtEnd() || !this.#isSeen()) return;
    const { talk } = this;
    if (talk.state === "open" && talk.mirror.conversation(this.#current).talk.unread) {
      talk.read(this.#current).catch(() => {}); // the next change tries again
    }
  }

  /** @param {1 | -1} step down the list, or up */
  showNext(step) {
    const names = this.talk.mirror.listed().map((one) => one.talk.with);
    const at = names.indexOf(this.#current) + step;
    if (names.length) this.#show(names[(at + names.length) % names.length]);
  }

  /** Whether the account is still signed in: work that began before may end afterwards. */
  #isShown() {
    return this.#form.isConnected;
  }

  // -- the list and the title -----------------------------------------------------------------------------------------

  #showList() {
    const { mirror } = this.talk;
    const found = mirror.listed();
    const unread = found.reduce((sum, one) => sum + one.talk.unread, 0);
    document.title = unread ? `(${unread}) Chat` : "Chat";
    if (!found.length) {
      const hint = "New chat begins a conversation with anybody, at any server.";
      replace(this.#list, h("li", null, empty("Nobody yet", hint)));
      return;
    }
    replace(
      this.#list,
      found.map((one) => {
        const name = one.talk.with;
        return item(one, mirror, { current: name === this.#current, onclick: () => this.#show(name) });
      }),
    );
  }

  #showTitle() {
    const { mirror, you } = this.talk;
    const name = this.#current;
    this.#form.hidden = !name;
    if (!name) {
      replace(this.#title, h("h2", null, "No conversation is open"));
      return;
    }
    const conversation = mirror.conversation(name);
    const room = isRoom(name);
    const { status, topic, members } = conversation.talk;
    let words = mirror.online.has(name) ? "here" : "away";
    if (mirror.blocked.includes(name)) words = "blocked";
    if (room) {
      words = status === "joined" ? `${members} ${members === 1 ? "member" : "members"}` : below(conversation, mirror);
    }
    this.#form.hidden = room && status !== "joined";
    replace(
      this.#title,
      h(
        "button.small.back",
        { type: "button", "aria-label": "Back to the conversations", onclick: () => this.#back() },
        "←",
      ),
      h(
        "div.who",
        null,
        h("h2", null, called(name, you)),
        h("p.muted", null, h(`span${words === "here" ? ".is-here" : ""}`, null, words), topic && ` · ${topic}`),
      ),
      h("div.buttons", null, this.#actions(name, status)),
    );
  }

  /**
   * Returns the buttons for a conversation.
   *
   * @param {string} name
   * @param {string} status
   */
  #actions(name, status) {
    const { talk } = this;
    const button = (/** @type {string} */ label, /** @type {() => Promise<unknown>} */ work) =>
      h("button.small", { type: "button", onclick: () => this.#attempt(work), "data-focus": label }, label);
    if (!isRoom(name)) {
      const blocked = talk.mirror.blocked.includes(name);
      return [button(blocked ? "Unblock" : "Block", () => talk.block(name, !blocked))];
    }
    if (status === "joined") {
      return [
        button("Members", () => dialogs.members(talk, name)),
        button("Invite", () => dialogs.invite(talk, name)),
        button("Leave", () => dialogs.leaveRoom(talk, name)),
      ];
    }
    if (status === "asked") return [];
    const join = button("Join", () => talk.room("join", name));
    return status === "invited" ? [join, button("Decline", () => talk.room("leave", name))] : [join];
  }

  // -- the conversation -----------------------------------------------------------------------------------------------

  /** @param {string | undefined} name */
  #show(name) {
    if (!name || !this.#isShown()) return;
    if (this.#current) this.#drafts.set(this.#current, this.#text.value);
    this.#current = name;
    document.body.classList.add("talking");
    const { unread, read } = this.talk.mirror.conversation(name).talk;
    this.#newAfter = unread ? read : null;
    this.#lines.clear();
    replace(this.#log);
    this.#text.value = this.#drafts.get(name) ?? "";
    this.#grow();
    this.#showList();
    this.#showTitle();
    this.#showLines();
    if (!this.#form.hidden && matchMedia("(pointer: fine)").matches) this.#text.focus();
    this.#fill();
  }

  #showLines() {
    const log = this.#log;
    const name = this.#current;
    if (!name) {
      this.#lines.clear();
      replace(log, empty("Choose a conversation", "Or begin one: people are called user@server."));
      return;
    }
    const { mirror, you } = this.talk;
    const { entries, complete } = mirror.conversation(name);
    const waiting = (this.#pending.get(name) ?? []).filter((entry) => !entries.has(keyOf(entry)));
    this.#pending.set(name, waiting);
    const atEnd = this.#isAtEnd();
    const fromEnd = log.scrollHeight - log.scrollTop;
    const height = log.scrollHeight;
    this.#lines.show(log, [...mirror.lines(name), ...waiting], {
      you,
      room: isRoom(name),
      complete,
      newAfter: this.#newAfter,
    });
    if (atEnd) log.scrollTop = log.scrollHeight;
    else if (log.scrollHeight !== height && this.#loading) log.scrollTop = log.scrollHeight - fromEnd;
    this.markRead();
  }

  /** Loads more if the open conversation has too few entries to scroll. */
  #fill() {
    if (!this.#current) return;
    const { entries, complete } = this.talk.mirror.conversation(this.#current);
    if (entries.size < FEW && !complete) this.#load();
  }

  async #load() {
    if (this.#loading || this.talk.state !== "open") return;
    this.#loading = true;
    await this.talk.load(this.#current).catch((error) => toast(error.message, "bad"));
    this.#loading = false;
  }

  #scrolled() {
    if (!this.#current) return;
    if (this.#log.scrollTop < 80 && !this.talk.mirror.conversation(this.#current).complete) this.#load();
    this.markRead();
  }

  #isAtEnd() {
    return this.#log.scrollHeight - this.#log.scrollTop - this.#log.clientHeight < 40;
  }

  /** A narrow page shows either the list or the conversation. */
  #isSeen() {
    return this.#log.offsetParent !== null;
  }

  #back() {
    document.body.classList.remove("talking");
    const chosen = /** @type {HTMLElement | null} */ (this.#list.querySelector('[aria-current="true"]'));
    chosen?.focus();
  }

  // -- writing --------------------------------------------------------------------------------------------------------

  #grow() {
    this.#text.rows = Math.min(8, this.#text.value.split("\n").length);
  }

  async #send() {
    const text = this.#text.value.replace(/^\n+|\n+$/g, "");
    const name = this.#current;
    if (!text.trim() || !name) return;
    const id = crypto.randomUUID?.() ?? `${Date.now()}-${Math.random()}`;
    /** @type {Entry} */
    const entry = { pos: Infinity, with: name, from: this.talk.you, id, time: Date.now(), text };
    this.#pending.set(name, [...(this.#pending.get(name) ?? []), entry]);
    this.#text.value = "";
    this.#drafts.delete(name);
    this.#grow();
    this.#showLines();
    this.#log.scrollTop = this.#log.scrollHeight;
    try {
      await this.talk.send(name, text, id);
    } catch (error) {
      entry.state = "failed";
      entry.reason = error.message;
    }
    this.#showLines();
  }

  /** @param {() => Promise<unknown>} work what a button does; its error is shown */
  async #attempt(work) {
    try {
      await work();
    } catch (error) {
      toast(error.message, "bad");
    }
    if (this.#isShown()) this.changed("talks");
  }
}

// -- the session that the tab remembers over a reload ---------------------------------------------------------------

/** @returns {Credentials | null} */
function recall() {
  try {
    const kept = JSON.parse(sessionStorage.getItem(KEPT) ?? "null");
    return kept?.token ? kept : null;
  } catch {
    return null; // without a storage people sign in after each reload
  }
}

/** @param {Credentials | null} credentials */
function remember(credentials) {
  try {
    if (credentials) sessionStorage.setItem(KEPT, JSON.stringify(credentials));
    else sessionStorage.removeItem(KEPT);
  } catch {
    // There is no storage.
  }
}

new Page().start();
