/** The chat's client over bester.js: sends what people do, and keeps the mirror up to date. */

import { BesterError, Client } from "../js/bester.js";
import { Mirror } from "./mirror.js";

/** @import { Message, Report } from "../js/bester.js" */

/** @typedef {"talks" | "entries" | "presence" | "state"} Changed what is different */
/** @typedef {"connecting" | "open" | "waiting" | "noChat" | "closed"} State */
/** @typedef {{taker?: (answer: any) => void, answer?: any}} Question */

const TYPE = "chat";
/** @type {Record<string, Changed>} */
const CHANGED = { presence: "presence", entry: "entries", states: "entries" };
const RETRY_S = 0.5;
const MAX_RETRY_S = 10;
const ASK_TIMEOUT_S = 30;

/** @param {number} seconds */
const pause = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));

/** The chat refused a request; the codes are in docs/chat.md. */
export class NotDone extends Error {
  /** @param {{reason?: string, message: string}} error */
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
   * @param {(what: Changed) => void} options.onchange
   * @param {(about: string, message: string) => void} options.onnotice a request failed later on
   * @param {(error: Error | undefined) => void} options.onend the server no longer admits the account
   */
  constructor({ username, password, token, onchange, onnotice, onend }) {
    this.mirror = new Mirror();
    /**
     * `waiting`: there is no connection. `noChat`: the server is there, its chat is not.
     *
     * @type {State}
     */
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
  /** @type {Map<string, Question>} */
  #answers = new Map();
  #catching = false;
  #again = false;
  /**
   * Up to where conversations are to be marked as delivered.
   *
   * @type {Map<string, number>}
   */
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

  /**
   * @param {string} to
   * @param {string} text
   * @param {string} id
   */
  send(to, text, id) {
    return this.#change({ op: "send", to, text, id });
  }

  /**
   * Loads entries from before the known part of a conversation.
   *
   * @param {string} name
   * @param {number} [limit]
   */
  async load(name, limit = 50) {
    const found = this.mirror.conversation(name);
    if (found.complete) return;
    /** @type {{op: string, with: string, limit: number, before?: number}} */
    const question = { op: "history", with: name, limit };
    if (found.floor !== null) question.before = found.floor;
    await this.#ask(question, (answer) => this.mirror.loaded(name, answer));
    this.#onchange("entries");
  }

  /** @param {string} name */
  async read(name) {
    const { talk } = this.mirror.conversation(name);
    if (talk.last > talk.read) await this.#mark(name, "read", talk.last);
  }

  /**
   * @param {string} name
   * @param {"delivered" | "read"} state
   * @param {number} upto
   */
  async #mark(name, state, upto) {
    for (;;) {
      const answer = await this.#change({ op: "mark", with: name, state, upto });
      if (answer?.upto === undefined || answer.upto >= upto) return;
    }
  }

  /**
   * @param {string} who
   * @param {boolean} on
   */
  async block(who, on) {
    const answer = await this.#change({ op: "block", who, on });
    if (answer?.blocked) this.mirror.blocked = answer.blocked;
    this.#onchange("talks");
  }

  /**
   * @param {string} room
   * @param {string} topic
   * @param {boolean} open
   */
  create(room, topic, open) {
    return this.#change({ op: "create", room, topic, open });
  }

  /**
   * @param {"join" | "leave" | "invite"} what
   * @param {string} room
   * @param {object} [more]
   */
  room(what, room, more = {}) {
    return this.#change({ op: "room", do: what, room, ...more });
  }

  /**
   * @param {string} room
   * @returns {Promise<string[]>}
   */
  async members(room) {
    return (await this.#ask({ op: "members", room })).members ?? [];
  }

  // -- asking ---------------------------------------------------------------------------------------------------------

  /**
   * Asks once.
   *
   * @param {object} question
   * @param {(answer: any) => void} [taker] called as soon as the answer comes, before later events
   * @returns {Promise<any>}
   */
  async #ask(question, taker) {
    const tag = String((this.#tags += 1));
    /** @type {Question} */
    const asked = { taker };
    this.#answers.set(tag, asked);
    try {
      const report = await this.client.send(TYPE, { ...question, ask: tag }, { timeout: ASK_TIMEOUT_S });
      if (asked.answer) return asked.answer;
      check(report);
      throw new NotDone({ reason: "chat.noAnswer", message: "the chat did not answer" });
    } finally {
      this.#answers.delete(tag);
    }
  }

  /**
   * Asks until there is an answer, or a good report whose answer was lost with a connection.
   *
   * @param {object} question
   * @returns {Promise<any>}
   */
  async #change(question) {
    const tag = String((this.#tags += 1));
    /** @type {Question} */
    const asked = {};
    this.#answers.set(tag, asked);
    const data = { ...question, ask: tag };
    let id = crypto.randomUUID?.() ?? `${Date.now()}-${Math.random()}`;
    let wait_s = RETRY_S;
    try {
      for (;;) {
        const report = await this.client.send(TYPE, data, { id, once: true });
        if (asked.answer) return asked.answer;
        if (report.good) return undefined;
        const { code, temporary } = report.error ?? {};
        if (!temporary && code !== "noHandler") check(report);
        await pause(wait_s);
        wait_s = Math.min(2 * wait_s, MAX_RETRY_S);
        if (!temporary) id = `${id}+`; // the server remembers the report on the old id
      }
    } finally {
      this.#answers.delete(tag);
    }
  }

  // -- events ---------------------------------------------------------------------------------------------------------

  /** @param {Message} message */
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
    this.#onchange(CHANGED[data.op] ?? "talks");
  }

  /**
   * @param {string} name
   * @param {number} pos
   */
  #wasDelivered(name, pos) {
    this.#delivered.set(name, Math.max(pos, this.#delivered.get(name) ?? 0));
    if (!this.#marking) this.#markDelivered();
  }

  async #markDelivered() {
    this.#marking = true;
    await Promise.resolve(); // entries that come together are marked together
    for (const [name, pos] of this.#delivered) {
      this.#delivered.delete(name);
      // If it fails, the next connection marks it again.
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
        if (this.client.state !== "open") break; // the next connection begins again
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
    for (let more = true; more;) {
      ({ more = false } = await this.#ask({ op: "sync", since: mirror.cursor }, (answer) => mirror.synced(answer)));
    }
    for (const { talk } of mirror.conversations.values()) {
      if (talk.unread) this.#wasDelivered(talk.with, talk.last);
    }
    this.#become("open");
    this.#onchange("talks");
    this.#onchange("entries");
    this.#onchange("presence");
  }

  /** @param {State} state */
  #become(state) {
    if (state === this.state || this.state === "closed") return;
    this.state = state;
    this.#onchange("state");
  }
}

/**
 * Throws the error of a bad report: the chat's own, or the server's.
 *
 * @param {Report} report
 */
function check(report) {
  if (report.error?.reason) throw new NotDone(report.error);
  report.orThrow();
}
