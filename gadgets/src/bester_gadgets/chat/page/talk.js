/** A chat's client over bester.js: what people do, and what the page is told of. */

import { BesterError, Client } from "../js/bester.js";
import { Mirror } from "./mirror.js";

const TYPE = "chat";
const RETRY_S = 0.5;
const MAX_RETRY_S = 10;
const ASK_TIMEOUT_S = 30;

const pause = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));

/** The chat did not do what was asked; the codes are in docs/chat.md. */
export class NotDone extends Error {
  constructor({ reason, message }) {
    super(message);
    this.code = reason;
  }
}

export class Talk {
  /**
   * @param {object} options
   * @param {string} options.username
   * @param {string} [options.password]
   * @param {string} [options.token]
   * @param {(what: "talks" | "entries" | "presence" | "state") => void} options.onchange something is different
   * @param {(about: string, message: string) => void} options.onnotice something did not work out
   * @param {(error: Error | undefined) => void} options.onend the server does not let the account in any more
   */
  constructor({ username, password, token, onchange, onnotice, onend }) {
    this.mirror = new Mirror();
    /** `connecting`, `open`, `waiting` (no connection), `noChat` (the server is there, its chat is not), `closed`. */
    this.state = "connecting";
    this.client = new Client(undefined, { username, password, token, features: ["token"], mail: [TYPE] });
    this.#onchange = onchange;
    this.#onnotice = onnotice;
    this.client.onmessage = (message) => this.#received(message);
    this.client.onstate = (state, error) => {
      if (state === "open") this.#catchUp();
      else this.#become(state);
      if (state === "closed") onend(error);
    };
  }

  #onchange;
  #onnotice;
  #tags = 0;
  #answers = new Map();
  #catching = false;
  #again = false;
  #delivered = new Map();
  #marking = false;

  open() {
    return this.client.open();
  }

  close() {
    this.#become("closed");
    this.client.close();
  }

  get you() {
    return this.mirror.you;
  }

  // -- what people do -------------------------------------------------------------------------------------------------

  send(to, text, id) {
    return this.#change({ op: "send", to, text, id });
  }

  /** Loads what stands before the known part of a conversation. */
  async load(name, limit = 50) {
    const found = this.mirror.conversation(name);
    if (found.complete) return;
    const question = { op: "history", with: name, limit };
    if (found.floor !== null) question.before = found.floor;
    await this.#ask(question, (answer) => this.mirror.loaded(name, answer));
    this.#onchange("entries");
  }

  async read(name) {
    const { talk } = this.mirror.conversation(name);
    if (talk.last > talk.read) await this.#mark(name, "read", talk.last);
  }

  async #mark(name, state, upto) {
    for (;;) {
      const answer = await this.#change({ op: "mark", with: name, state, upto });
      if (answer?.upto === undefined || answer.upto >= upto) return;
    }
  }

  async block(who, on) {
    const answer = await this.#change({ op: "block", who, on });
    if (answer?.blocked) this.mirror.blocked = answer.blocked;
    this.#onchange("talks");
  }

  create(room, topic, open) {
    return this.#change({ op: "create", room, topic, open });
  }

  room(what, room, more = {}) {
    return this.#change({ op: "room", do: what, room, ...more });
  }

  async members(room) {
    return (await this.#ask({ op: "members", room })).members ?? [];
  }

  // -- asking ---------------------------------------------------------------------------------------------------------

  async #ask(question, taker) {
    const tag = String((this.#tags += 1));
    this.#answers.set(tag, { taker });
    try {
      const report = await this.client.send(TYPE, { ...question, ask: tag }, { timeout: ASK_TIMEOUT_S });
      const { answer } = this.#answers.get(tag);
      if (answer) return answer;
      check(report);
      throw new NotDone({ reason: "chat.noAnswer", message: "the chat did not answer" });
    } finally {
      this.#answers.delete(tag);
    }
  }

  /** Asks until there is an answer, or the report of one that came over a lost connection. */
  async #change(question) {
    const tag = String((this.#tags += 1));
    this.#answers.set(tag, {});
    const data = { ...question, ask: tag };
    let id = crypto.randomUUID?.() ?? `${Date.now()}-${Math.random()}`;
    let wait_s = RETRY_S;
    try {
      for (;;) {
        const report = await this.client.send(TYPE, data, { id, once: true });
        const { answer } = this.#answers.get(tag);
        if (answer) return answer;
        if (report.good) return undefined;
        const { code, temporary } = report.error ?? {};
        if (!temporary && code !== "noHandler") check(report);
        await pause(wait_s);
        wait_s = Math.min(2 * wait_s, MAX_RETRY_S);
        if (!temporary) id = `${id}+`; // its report is remembered
      }
    } finally {
      this.#answers.delete(tag);
    }
  }

  // -- what comes -----------------------------------------------------------------------------------------------------

  #received({ type, data }) {
    if (type !== TYPE || !data || typeof data.op !== "string") return;
    if (data.op === "answer") {
      const asked = this.#answers.get(data.ask);
      if (!asked) return;
      asked.answer = data;
      asked.taker?.(data);
      return;
    }
    if (data.op === "notice") {
      this.#onnotice(data.with, data.problem.message);
      return;
    }
    const last = data.op === "entry" ? (this.mirror.conversations.get(data.entry.with)?.talk.last ?? 0) : 0;
    if (!this.mirror.told(data)) {
      this.#catchUp();
      return;
    }
    if (data.op === "entry" && data.entry.state === undefined && data.entry.pos > last) {
      this.#wasDelivered(data.entry.with, data.entry.pos);
    }
    this.#onchange({ presence: "presence", entry: "entries", states: "entries" }[data.op] ?? "talks");
  }

  #wasDelivered(name, pos) {
    this.#delivered.set(name, Math.max(pos, this.#delivered.get(name) ?? 0));
    if (!this.#marking) this.#markDelivered();
  }

  async #markDelivered() {
    this.#marking = true;
    await Promise.resolve(); // what comes at once is marked at once
    while (this.#delivered.size) {
      const [name, pos] = this.#delivered.entries().next().value;
      this.#delivered.delete(name);
      // Where it fails it is marked again after the next connection.
      await this.#mark(name, "delivered", pos).catch(() => {});
    }
    this.#marking = false;
  }

  async #catchUp() {
    this.#again = true;
    if (this.#catching) return;
    this.#catching = true;
    let wait_s = RETRY_S / 5;
    while (this.#again && this.state !== "closed") {
      this.#again = false;
      try {
        await this.#greet();
      } catch (error) {
        if (this.client.state !== "open") break; // the next connection begins it again
        if (error instanceof BesterError || error instanceof NotDone) this.#become("noChat");
        else console.error(error);
        await pause(wait_s);
        wait_s = Math.min(2 * wait_s, MAX_RETRY_S);
        this.#again = true;
      }
    }
    this.#catching = false;
  }

  async #greet() {
    const { mirror } = this;
    await this.#ask({ op: "hello" }, (answer) => mirror.greeted(answer));
    for (let more = true; more; ) {
      ({ more = false } = await this.#ask({ op: "sync", since: mirror.cursor }, (answer) => mirror.synced(answer)));
    }
    for (const { talk } of mirror.conversations.values()) {
      if (talk.unread) this.#wasDelivered(talk.with, talk.last);
    }
    this.#become("open");
    for (const what of ["talks", "entries", "presence"]) this.#onchange(what);
  }

  #become(state) {
    if (state === this.state || this.state === "closed") return;
    this.state = state;
    this.#onchange("state");
  }
}

/** Throws what a bad report says: the chat's own reason, or the server's. */
function check(report) {
  if (report.error?.reason) throw new NotDone(report.error);
  report.orThrow();
}
