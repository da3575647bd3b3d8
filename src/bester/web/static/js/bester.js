/**
 * Bester for browsers and Node: one account's session on a server, over a WebSocket.
 *
 *   const client = await Client.connect("wss://example.org/ws", { username: "t", password: "secret" });
 *   const report = await client.send("chat", { text: "hello" }, { once: true });
 *   for await (const message of client) console.log(message.type, message.data);
 *
 * The client reopens a lost connection by itself. It then sends `once` messages again with the same id, which the
 * server recognises, until each has a report; any other message without a report fails with `connectionClosed`, and
 * its sender decides. The client acknowledges a received message when the application is done with it, and hands it
 * over once although the server may deliver it twice.
 *
 * bester.js is one file, so that a site can copy it from a server's `/bester.js` and need nothing beside it.
 *
 * The types below are the source of bester.d.ts, which `make types` writes.
 *
 * @module
 */

/** @typedef {null | boolean | number | string | Json[] | { [name: string]: Json }} Json */

/**
 * The server's codes (docs/protocol.md, section 11), and the client's own.
 *
 * @typedef {"connectFailed" | "connectionClosed" | "timeout" | "alreadyOpen" | "badId" | "tooLarge" | "slowConsumer"
 *   | "noReply" | "unsupported" | "badNumber" | (string & {})} Code
 */

/**
 * @typedef {object} ReportError
 * @property {string} code
 * @property {string} message
 * @property {boolean} temporary whether the same message can succeed later
 * @property {string} [reason] with the code `handlerError`: the handler's own code, where it gave one
 */

/**
 * @typedef {object} Result
 * @property {string} to the username, or the server's address, as the handler wrote it
 * @property {"delivered" | "stored" | "sent" | "queued" | "skipped" | "held" | "failed"} status
 * @property {ReportError} [error]
 */

/**
 * One step of a message's route; nested where the message went to another server.
 *
 * @typedef {object} Step
 * @property {string} server
 * @property {"guard" | "handler" | "clients" | "server" | "mailbox" | "outbox"} step
 * @property {string} name
 * @property {number} ms
 * @property {string} status
 * @property {number} [parts] how many parts a handler has sent
 * @property {Step[]} [route]
 */

/**
 * @typedef {object} Options
 * @property {string} username
 * @property {string} [password]
 * @property {string} [token] an earlier session's `token`, in place of the password
 * @property {("ack" | "route" | "token" | "replyTo" | "parts")[]} [features] what to ask of the server (`ack`, `route`,
 *   `token`); `replyTo` and `parts` are always asked for
 * @property {boolean | string[]} [mail] whether to take the account's messages (true), or messages of which types; the
 *   others stay where they are. A program that only sends and asks gives false, and is sent nothing but replies.
 * @property {boolean} [reconnect] whether the client reopens a lost connection (true)
 * @property {Pick<Storage, "getItem" | "setItem">} [storage] such as `localStorage`: remembers over a reload which
 *   deliveries the application is done with
 * @property {number} [maxQueued] how many received messages may wait to be taken, without `ack` (10,000)
 * @property {number} [connectTimeout] seconds, for connecting and authenticating (10)
 * @property {new (url: string) => WebSocket} [WebSocket] another implementation
 */

/**
 * @typedef {object} SendOptions
 * @property {string} [id] an id of your own, different from those that have no report yet
 * @property {boolean} [once] send again over reconnections until there is a report; never handled twice
 * @property {boolean} [route] the report tells the route that the message took
 * @property {boolean} [dryRun] deliver nothing; the report tells the route that the message would take
 * @property {number} [timeout] seconds; after them the message is cancelled, and it is not known what became of it
 * @property {AbortSignal} [signal] cancels the message; the promise then rejects with the signal's reason
 */

/** @typedef {{user: string} | {server: string | null}} HeldSender an account of the server, or another server */

/** @typedef {{ids: number[]} | HeldSender} Chosen */

/**
 * A message that is held; `data` is JSON, cut after 2 KiB if `cut`.
 *
 * @typedef {object} Held
 * @property {number} id
 * @property {string} type
 * @property {HeldSender} from
 * @property {string} messageId
 * @property {string} guard
 * @property {number} hops
 * @property {number} created seconds since 1970
 * @property {number} bytes
 * @property {string} data
 * @property {boolean} cut
 */

/** @typedef {"connecting" | "open" | "waiting" | "closed"} State */

const AUTHENTICATION_ID = "auth_special";
const PAUSE_MIN_S = 0.1;
const PAUSE_MAX_S = 30;
const SILENT_S = 15;
const GIVEN_UP_S = 30;
const REMEMBERED = 10_000;
const STORED = 2_000;

/** Every error of the client. `code` is the server's, or one of the client's own, which docs/javascript.md lists. */
export class BesterError extends Error {
  /** @readonly @type {Code} */
  code;
  /**
   * Whether the same can succeed later without a change.
   *
   * @readonly
   * @type {boolean}
   */
  temporary;
  /**
   * Where the server reported a message bad.
   *
   * @readonly
   * @type {Report | undefined}
   */
  report;
  /**
   * With the code `handlerError`: the handler's own code, where it gave one; else `""`.
   *
   * @readonly
   * @type {string}
   */
  reason;

  /**
   * @param {Code} code stable, for programs
   * @param {string} message for people
   * @param {{temporary?: boolean, report?: Report, reason?: string}} [more]
   */
  constructor(code, message, { temporary = false, report, reason = "" } = {}) {
    super(message);
    this.name = "BesterError";
    this.code = code;
    this.temporary = temporary;
    this.report = report;
    this.reason = reason;
  }
}

// JSON's strings, and its numbers in parentheses.
const TOKENS = /"(?:[^"\\]+|\\.)*"|(-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)/g;
const ROUNDED = 15; // digits that a number keeps in any case

/**
 * Holds the `data` of a frame: the value as JSON.parse makes it, and its text.
 *
 * @template [Data=any]
 */
class WithData {
  /**
   * As JSON.parse makes it, which rounds numbers.
   *
   * @readonly
   * @type {Data}
   */
  data;
  /** @type {string | undefined} */
  #text;
  /** @type {string | undefined} */
  #raw;

  /**
   * @param {Data} data
   * @param {string} [text] the frame
   */
  constructor(data, text) {
    this.data = data;
    this.#text = text;
  }

  /** The JSON text of `data` as it came, in which nothing is rounded; undefined where there was none. */
  get raw() {
    if (this.#text !== undefined) {
      this.#raw = member(member(this.#text, "payload") ?? "", "data");
      this.#text = undefined;
    }
    return this.#raw;
  }

  /** Whether each number of `data` equals the number that was sent; beyond 2^53 or 1.8e308 it may not. See `raw`. */
  get exact() {
    for (const [, number] of (this.raw ?? "").matchAll(TOKENS)) if (number && !isExact(number)) return false;
    return true;
  }
}

/** @param {string} text a number in JSON */
function isExact(text) {
  const value = Number(text);
  if (!Number.isFinite(value)) return false;
  if (/^-?\d+$/.test(text)) return Number.isSafeInteger(value) || (text.length < 400 && BigInt(value) === BigInt(text));
  const digits = text.replace(/[eE].*|[-.]/g, "").replace(/^0+|0+$/g, "");
  return digits.length <= ROUNDED && (value !== 0 || digits === "");
}

/**
 * Refuses infinities and NaN, which JSON does not have: JSON.stringify would write null.
 *
 * @param {string} key
 * @param {unknown} value
 */
function refuseNotFinite(key, value) {
  if (typeof value !== "number" || Number.isFinite(value)) return value;
  throw new BesterError("badNumber", `JSON does not have the number ${value}${key && `, which ${key} is`}`);
}

/**
 * Returns the text of a member of an object, from JSON that JSON.parse accepts; of a repeated key, the last one's.
 *
 * @param {string} text
 * @param {string} name
 * @returns {string | undefined}
 */
function member(text, name) {
  let depth = 0;
  let key;
  let start = 0;
  let found;
  for (const { 0: token, index } of text.matchAll(/"(?:[^"\\]+|\\.)*"|[[\]{}:,]/g)) {
    if (token === "{" || token === "[") {
      depth += 1;
    } else if (depth === 1 && token === ":") {
      start = index + 1;
    } else if (token === "}" || token === "]" || token === ",") {
      if (depth === 1) {
        if (key === name && start) found = text.slice(start, index).trim();
        start = 0;
      }
      if (token !== ",") depth -= 1;
    } else if (depth === 1 && !start) {
      key = JSON.parse(token);
    }
  }
  return found;
}

/**
 * A message that a handler sent to this client.
 *
 * @template [Data=any]
 * @extends {WithData<Data>}
 */
export class Message extends WithData {
  /** @readonly @type {string} */
  type;
  /** @readonly @type {string | undefined} */
  deliveryId;
  /**
   * The id of your own message that a handler replies to.
   *
   * @readonly
   * @type {string | undefined}
   */
  replyTo;

  /**
   * @param {{type: string, data?: any, deliveryId?: string, replyTo?: string}} payload
   * @param {string} text the frame
   */
  constructor({ type, data = null, deliveryId, replyTo }, text) {
    super(data, text);
    this.type = type;
    this.deliveryId = deliveryId;
    this.replyTo = replyTo;
  }
}

/** The server's status report on one message. */
export class Report extends WithData {
  /** @readonly @type {string} */
  id;
  /**
   * Whether every recipient has the message, or it is on disk at a server that goes on trying.
   *
   * @readonly
   * @type {boolean}
   */
  good;
  /** @readonly @type {ReportError | undefined} */
  error;
  /** @readonly @type {Result[]} */
  results;
  /** @readonly @type {Step[]} */
  route;
  /** @readonly @type {{[name: string]: any}} */
  payload;

  /**
   * @param {{header?: any, payload?: any}} frame a status report as it came
   * @param {string} [text] its JSON
   */
  constructor({ header, payload }, text) {
    super(payload?.data, text);
    this.id = payload?.id ?? "";
    this.good = header.status === "good";
    this.error = payload?.error;
    this.results = payload?.results ?? [];
    this.route = payload?.route ?? [];
    this.payload = payload ?? {};
  }

  /** Returns the report if it is good, and throws a BesterError with the server's code if it is bad. */
  orThrow() {
    if (this.good) return this;
    const { code = "internal", message = "reported bad, without a reason", temporary, reason } = this.error ?? {};
    throw new BesterError(code, message, { temporary, report: this, reason });
  }
}

/**
 * Remembers the ids of deliveries that the application is done with: the newest ten thousand in memory, the newest two
 * thousand in a storage.
 */
class Done {
  /**
   * @param {Options["storage"]} storage
   * @param {string} key
   */
  constructor(storage, key) {
    this.storage = storage;
    this.key = key;
    /** @type {Set<string>} */
    this.ids = new Set();
    try {
      for (const id of JSON.parse(storage?.getItem(key) ?? "[]")) this.ids.add(id);
    } catch {
      // An entry that cannot be read counts as none.
    }
  }

  /** @param {string} id */
  has(id) {
    return this.ids.has(id);
  }

  /** @param {string[]} ids */
  add(ids) {
    for (const id of ids) this.ids.add(id);
    for (const id of this.ids) {
      if (this.ids.size <= REMEMBERED) break;
      this.ids.delete(id);
    }
    try {
      this.storage?.setItem(this.key, JSON.stringify([...this.ids].slice(-STORED)));
    } catch {
      this.storage = undefined; // full or forbidden: memory has to do
    }
  }
}

/** @implements {AsyncIterable<Message>} */
export class Client {
  #url;
  #options;
  /** @type {WebSocket | null} */
  #socket = null;
  /** @type {State} */
  #state = "closed";
  /** @type {BesterError | null} */
  #error = null;
  /** @type {{resolve: (report: Report) => void, reject: (error: Error) => void} | null} */
  #opening = null;
  /**
   * Messages that have no report yet, by their ids.
   *
   * @type {Map<string, {text: string, once: boolean, resolve: (report: any) => void, reject: (error: any) => void,
   *   clear: () => void}>}
   */
  #pending = new Map();
  /** @type {Map<string, (reply: any, isPart: boolean) => void>} */
  #asked = new Map();
  /** @type {Message[]} */
  #inbox = [];
  /** @type {{resolve: (message: Message | undefined) => void, reject: (error: Error) => void}[]} */
  #readers = [];
  /** @type {string[]} */
  #handed = [];
  /** @type {Set<string>} */
  #holding = new Set();
  /** @type {string[]} */
  #acks = [];
  #done;
  /** @type {((message: Message) => unknown) | null} */
  #onmessage = null;
  /** @type {string[]} */
  #features = [];
  /** @type {string | undefined} */
  #server;
  #maxMessage = 1024 * 1024;
  #nextId = 1;
  #prefix = (globalThis.crypto?.randomUUID?.() ?? `${Date.now()}${Math.random()}`).replace(/\W/g, "");
  #tries = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #retryTimer;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #silenceTimer;
  #heard = 0;
  #pinged = 0;

  /**
   * @param {string | undefined} url `ws:` or `wss:`; in a browser, where it is undefined, `/ws` of the page's server
   * @param {Options} options
   */
  constructor(url, options) {
    this.#url = url ?? defaultUrl();
    this.#options = {
      features: ["ack", "route", "token"],
      /** @type {boolean | string[]} */
      mail: true,
      reconnect: true,
      maxQueued: 10_000,
      connectTimeout: 10,
      WebSocket: globalThis.WebSocket,
      ...options,
    };
    if (!this.#options.WebSocket) throw new TypeError("there is no WebSocket here; give one as options.WebSocket");
    this.#done = new Done(this.#options.storage, `bester:${this.#url}:${this.#options.username}`);
    /**
     * With the feature `token`: stands in for the password. Keep it secret.
     *
     * @type {string | undefined}
     */
    this.token = this.#options.token;
    /**
     * Called with each new state, and the error that led there.
     *
     * @type {((state: State, error?: BesterError) => void) | null}
     */
    this.onstate = null;
    /**
     * Called with what `onmessage` threw; the message is delivered again later.
     *
     * @type {((error: unknown) => void) | null}
     */
    this.onerror = (error) => console.error("bester: onmessage failed", error);
  }

  /**
   * Returns an open client; the arguments are those of the class.
   *
   * @param {string | undefined} url
   * @param {Options} options
   */
  static async connect(url, options) {
    const client = new Client(url, options);
    await client.open();
    return client;
  }

  get state() {
    return this.#state;
  }

  /** The features that the server granted. */
  get features() {
    return this.#features;
  }

  /** The server's name, if it told. */
  get server() {
    return this.#server;
  }

  /** The largest message in bytes that the server takes. */
  get maxMessage() {
    return this.#maxMessage;
  }

  /**
   * Connects and authenticates. Rejects where the server cannot be reached or does not admit this account; only after
   * a first success does the client reopen a lost connection.
   *
   * @returns {Promise<Report>}
   */
  open() {
    if (this.#state !== "closed") return Promise.reject(new BesterError("alreadyOpen", "the client is open already"));
    this.#error = null;
    this.#tries = 0;
    return new Promise((resolve, reject) => {
      this.#opening = { resolve, reject };
      this.#connect();
    });
  }

  /**
   * Ends the connection and does not reopen it; messages without a report fail. Messages that were handed over count as
   * done with.
   */
  close() {
    this.#settleHanded();
    this.#flushAcks();
    this.#end(null);
  }

  // -- sending ------------------------------------------------------------------------------------------------------

  /**
   * Sends a message and resolves with the report on it, good or bad.
   *
   * @param {string} type names the handler
   * @param {any} [data] any JSON value
   * @param {SendOptions} [options]
   * @returns {Promise<Report>}
   */
  send(type, data = null, { id, once = false, route = false, dryRun = false, timeout, signal } = {}) {
    /** @type {{once?: boolean, route?: boolean, dryRun?: boolean}} */
    const header = {};
    if (once) header.once = true;
    if (route) header.route = true;
    if (dryRun) header.dryRun = true;
    id ??= once ? `${this.#prefix}-${this.#nextId++}` : String(this.#nextId++);
    return this.#ask({ header, payload: { type, id, data } }, { once, timeout, signal });
  }

  /**
   * Sends a message and resolves with a handler's reply; any number at once. The first reply counts, even if something
   * else that the message caused fails; it does not come out of `receive`. Further replies, and a reply after the
   * timeout, are dropped.
   *
   * Without a reply it rejects: with the server's code where the message is reported bad, or with `noReply`.
   *
   * @template [Data=any]
   * @param {string} type names the handler
   * @param {any} [data] any JSON value
   * @param {Pick<SendOptions, "timeout" | "signal">} [options]
   * @returns {Promise<Message<Data>>}
   */
  async ask(type, data = null, { timeout, signal } = {}) {
    const id = this.#newQuestion();
    /** @type {Promise<Message<Data>>} */
    const answer = new Promise((resolve) => {
      this.#asked.set(id, (reply) => {
        this.#asked.delete(id);
        this.#pending.get(id)?.clear(); // what else the message causes may take its time
        resolve(reply);
      });
    });
    const reported = this.#ask({ header: {}, payload: { type, id, data } }, { timeout, signal }).then((report) => {
      // Every reply comes before the report.
      if (!this.#asked.has(id)) return answer;
      report.orThrow();
      throw new BesterError("noReply", "the message was handled, and no handler replied to it", { report });
    });
    try {
      return await Promise.race([answer, reported]);
    } finally {
      this.#asked.delete(id);
    }
  }

  /**
   * Sends a message and yields the parts of a handler's answer as they come; any number at once. It ends with the
   * report, which is its return value, and throws after the parts that came if that is bad. Leaving the loop early
   * cancels the message. A handler or a server that does not know parts sends all replies at the end.
   *
   * The message is sent when the first part is asked for, and never twice.
   *
   * @template [Data=any]
   * @param {string} type names the handler
   * @param {any} [data] any JSON value
   * @param {{window?: number, timeout?: number, route?: boolean, signal?: AbortSignal}} [options] `window`: how many parts
   *   may be under way or wait to be taken (64), from 1 to 65,536; `timeout`: seconds that each part may take; `route`:
   *   as of `send`; `signal`: cancels the message, and the loop then throws the signal's reason
   * @returns {AsyncGenerator<Message<Data>, Report, undefined>}
   */
  async *stream(type, data = null, { window = 64, timeout, route = false, signal } = {}) {
    const id = this.#newQuestion();
    /** @type {{message: Message<Data>, isPart: boolean}[]} */
    const waiting = [];
    /** @type {{report?: Report, error?: unknown} | undefined} */
    let outcome;
    let wake = () => {};
    const end = (/** @type {typeof outcome} */ found) => {
      this.#asked.delete(id);
      outcome ??= found;
      wake();
    };
    const fail = (/** @type {BesterError} */ error) => this.#giveUp(id)?.reject(error);
    this.#asked.set(id, (message, isPart) => {
      waiting.push({ message, isPart });
      if (waiting.length > window + this.#options.maxQueued) fail(tooMany(waiting.length));
      wake();
    });
    const header = { ...(this.features.includes("parts") && { parts: window }), ...(route && { route }) };
    this.#ask({ header, payload: { type, id, data } }, { signal }).then(
      (report) => end({ report }),
      (error) => end({ error }),
    );
    try {
      for (let taken = 0; ; ) {
        const next = waiting.shift();
        if (next) {
          if (next.isPart && ++taken >= window / 2 && this.#pending.has(id)) {
            this.#tell("more", { id, parts: taken });
            taken = 0;
          }
          signal?.throwIfAborted();
          yield next.message;
        } else if (outcome) {
          if (outcome.report) return outcome.report.orThrow();
          throw outcome.error;
        } else {
          const late = () => fail(noneInTime("part", timeout));
          const timer = timeout === undefined ? undefined : setTimeout(late, timeout * 1000);
          await new Promise((resolve) => (wake = () => resolve(undefined)));
          clearTimeout(timer);
        }
      }
    } finally {
      this.#asked.delete(id);
      this.#giveUp(id);
    }
  }

  /**
   * Asks the server to cancel a message that has no report yet; its report still comes: bad, with the code `cancelled`,
   * unless the handler has done its work. Returns whether the server was asked.
   *
   * @param {string} id
   */
  cancel(id) {
    const can = this.#state === "open" && this.features.includes("parts") && this.#pending.has(id);
    if (can) this.#tell("cancel", { id });
    return can;
  }

  #newQuestion() {
    if (this.#state === "open" && !this.features.includes("replyTo")) {
      throw new BesterError("unsupported", "the server does not say what a reply answers (the feature replyTo)");
    }
    return `${this.#askedPrefix}${this.#nextId++}`;
  }

  get #askedPrefix() {
    return `${this.#prefix}-a`; // one for this client, over all of its connections
  }

  /**
   * Runs a built-in command and resolves with its result; rejects with the server's code.
   *
   * @param {string} command
   * @param {{[name: string]: any}} [args]
   * @param {{timeout?: number}} [options] seconds
   * @returns {Promise<any>}
   */
  async builtin(command, args = {}, { timeout } = {}) {
    const data = { command: { type: command, args } };
    const message = { header: {}, payload: { type: "builtin", id: String(this.#nextId++), data } };
    return (await this.#ask(message, { timeout })).orThrow().data;
  }

  /**
   * What guards hold until the account consents to it (docs/protocol.md, section 3.8). `list` resolves with what is
   * held, oldest first, and whom the account trusts; the others take messages by their ids, or all of one sender, and
   * resolve with the number of messages. `release` consents, with `always` also to what the sender will send; `refuse`
   * removes, and the sender is no longer trusted.
   */
  held = Object.freeze({
    list: (/** @type {{after?: number, limit?: number}} */ args = {}) =>
      /** @type {Promise<{held: Held[], trusted: HeldSender[]}>} */ (this.builtin("listHeld", args)),
    release: async (/** @type {Chosen & {always?: boolean}} */ args) =>
      /** @type {number} */ ((await this.builtin("release", args)).messages),
    refuse: async (/** @type {Chosen} */ args) =>
      /** @type {number} */ ((await this.builtin("refuse", args)).messages),
  });

  /**
   * Asks whether the server is there; resolves with the seconds that the answer took.
   *
   * @param {{timeout?: number}} [options] seconds
   */
  async ping({ timeout = SILENT_S } = {}) {
    const begun = performance.now();
    await this.#ask({ header: {}, payload: { type: "dummy", id: `ping-${this.#nextId++}` } }, { timeout });
    return (performance.now() - begun) / 1000;
  }

  /** Ends the session with its token, and the connection. */
  async logout() {
    await this.builtin("logout");
    this.token = undefined;
    this.close();
  }

  /**
   * @param {{header: object, payload: {type: string, id: string, data?: any}}} message
   * @param {{once?: boolean, timeout?: number, signal?: AbortSignal}} [options]
   * @returns {Promise<Report>}
   */
  #ask(message, { once = false, timeout, signal } = {}) {
    return new Promise((resolve, reject) => {
      signal?.throwIfAborted();
      const { id } = message.payload;
      const text = JSON.stringify(message, refuseNotFinite);
      if (id === AUTHENTICATION_ID) throw new BesterError("badId", `the id ${id} belongs to the protocol`);
      if (this.#pending.has(id)) throw new BesterError("badId", `a message with the id ${id} has no report yet`);
      const size = text.length * 3 > this.maxMessage ? new TextEncoder().encode(text).length : 0;
      if (size > this.maxMessage) throw new BesterError("tooLarge", `${size} bytes; ${this.maxMessage} are allowed`);
      if (this.#state === "closed" || (this.#state !== "open" && !once)) throw this.#closedError();
      const late = () => this.#giveUp(id)?.reject(noneInTime("report", timeout));
      const timer = timeout === undefined ? undefined : setTimeout(late, timeout * 1000);
      const aborted = () => this.#giveUp(id)?.reject(signal?.reason);
      signal?.addEventListener("abort", aborted);
      const clear = () => {
        clearTimeout(timer);
        signal?.removeEventListener("abort", aborted);
      };
      this.#pending.set(id, { text, once, resolve, reject, clear });
      if (this.#state === "open") this.#socket?.send(text);
    });
  }

  /**
   * Waits no longer for the report on a message, and asks the server to cancel it.
   *
   * @param {string} id
   */
  #giveUp(id) {
    if (!this.#pending.get(id)?.once) this.cancel(id);
    return this.#take(id);
  }

  /**
   * @param {string} messageType
   * @param {object} payload
   */
  #tell(messageType, payload) {
    if (this.#state === "open") this.#socket?.send(JSON.stringify({ header: { messageType }, payload }));
  }

  /** @param {string} id */
  #take(id) {
    const entry = this.#pending.get(id);
    if (!entry) return undefined;
    this.#pending.delete(id);
    entry.clear();
    return entry;
  }

  // -- receiving ----------------------------------------------------------------------------------------------------

  /**
   * Called with each received message. The message is acknowledged when the function's promise has resolved; if the
   * function throws or rejects, the message is not acknowledged, and is delivered again later.
   */
  get onmessage() {
    return this.#onmessage;
  }

  set onmessage(callback) {
    this.#onmessage = callback;
    if (callback) for (const message of this.#inbox.splice(0)) this.#call(message);
  }

  /**
   * Resolves with the next message, and acknowledges the one before; with undefined when the client was closed and all
   * messages are taken. There must be one reader, and no `onmessage`.
   *
   * @returns {Promise<Message | undefined>}
   */
  receive() {
    this.#settleHanded();
    return new Promise((resolve, reject) => {
      const message = this.#inbox.shift();
      if (message) {
        this.#handOut(message, resolve);
      } else if (this.#state !== "closed") {
        this.#readers.push({ resolve, reject });
      } else if (this.#error) {
        reject(this.#error);
      } else {
        resolve(undefined);
      }
    });
  }

  /** @returns {AsyncGenerator<Message, void, undefined>} */
  async *[Symbol.asyncIterator]() {
    for (;;) {
      const message = await this.receive();
      if (message === undefined) return;
      yield message;
    }
  }

  /**
   * @param {Message} message
   * @param {(message: Message) => void} resolve
   */
  #handOut(message, resolve) {
    if (message.deliveryId !== undefined) this.#handed.push(message.deliveryId);
    resolve(message);
  }

  #settleHanded() {
    if (this.#handed.length) this.#acknowledge(this.#handed.splice(0));
  }

  /**
   * @param {string | undefined} partOf
   * @param {{type: string, data?: any, deliveryId?: string, replyTo?: string}} payload
   * @param {string} text
   */
  #received(partOf, payload, text) {
    const { deliveryId, replyTo = partOf } = payload;
    if (deliveryId !== undefined) {
      if (this.#done.has(deliveryId)) return this.#acknowledge([deliveryId]);
      if (this.#holding.has(deliveryId)) return undefined; // it is acknowledged when the application is done with it
      this.#holding.add(deliveryId);
    }
    const message = new Message(payload, text);
    if (replyTo?.startsWith(this.#askedPrefix)) {
      this.#asked.get(replyTo)?.(message, partOf !== undefined);
      return deliveryId === undefined ? undefined : this.#acknowledge([deliveryId]);
    }
    if (this.#onmessage) return this.#call(message);
    const reader = this.#readers.shift();
    if (reader) return this.#handOut(message, reader.resolve);
    this.#inbox.push(message);
    if (deliveryId === undefined && this.#inbox.length > this.#options.maxQueued) {
      this.#end(tooMany(this.#options.maxQueued));
    }
    return undefined;
  }

  /** @param {Message} message */
  async #call(message) {
    const { deliveryId } = message;
    try {
      await this.#onmessage?.(message);
      if (deliveryId !== undefined) this.#acknowledge([deliveryId]);
    } catch (error) {
      if (deliveryId !== undefined) this.#holding.delete(deliveryId);
      this.onerror?.(error);
    }
  }

  /** @param {string[]} ids */
  #acknowledge(ids) {
    for (const id of ids) this.#holding.delete(id);
    if (!this.#acks.length) queueMicrotask(() => this.#flushAcks());
    this.#acks.push(...ids);
  }

  #flushAcks() {
    if (!this.#acks.length) return;
    const ids = this.#acks.splice(0);
    this.#done.add(ids);
    // Without a connection nothing is lost: the server delivers the messages again, and the client drops them.
    this.#tell("ack", { ids });
  }

  // -- the connection -----------------------------------------------------------------------------------------------

  /**
   * @param {State} state
   * @param {BesterError} [error]
   */
  #become(state, error) {
    this.#state = state;
    this.onstate?.(state, error);
  }

  #connect() {
    this.#become("connecting");
    let socket;
    try {
      socket = new this.#options.WebSocket(this.#url);
    } catch (error) {
      return this.#end(new BesterError("connectFailed", String(error.message ?? error)));
    }
    this.#socket = socket;
    const timer = setTimeout(() => this.#lost(socket, "no answer in time"), this.#options.connectTimeout * 1000);
    socket.onopen = () => socket.send(JSON.stringify(this.#hello()));
    socket.onmessage = (event) => {
      if (this.#socket !== socket) return;
      this.#heard = performance.now();
      try {
        this.#dispatch(socket, JSON.parse(event.data), event.data, timer);
      } catch (error) {
        console.error("bester: a message of the server was not understood", error);
      }
    };
    const gone = (/** @type {string} */ reason) => {
      clearTimeout(timer);
      this.#lost(socket, reason);
    };
    socket.onerror = () => gone("the connection failed"); // not everywhere does a close follow
    socket.onclose = (event) => gone(event.reason || "closed by the server");
    return undefined;
  }

  /** The message that authenticates. */
  #hello() {
    const { username, password, mail } = this.#options;
    const features = [...new Set([...this.#options.features, "replyTo", "parts"])];
    const authentication = this.token ? { username, token: this.token } : { username, password };
    /** @type {{scope: string, features: string[], authentication: object, mail?: boolean | string[]}} */
    const header = { scope: "client", features, authentication };
    if (mail !== true) header.mail = mail;
    return { header, payload: { type: "dummy" } };
  }

  /**
   * @param {WebSocket} socket
   * @param {{header?: any, payload?: any}} frame
   * @param {string} text
   * @param {ReturnType<typeof setTimeout>} timer
   */
  #dispatch(socket, frame, text, timer) {
    const { header = {}, payload = {} } = frame;
    if (header.messageType === "statusReport") {
      const report = new Report(frame, text);
      if (report.id !== AUTHENTICATION_ID) return this.#take(report.id)?.resolve(report);
      clearTimeout(timer);
      return this.#authenticated(socket, report);
    }
    if (header.messageType === "receivedMessage") return this.#received(header.partOf, payload, text);
    if (header.messageType === "fatal") {
      const { code = "internal", message = "ended by the server", temporary = false } = payload.error ?? {};
      return this.#lost(socket, message, new BesterError(code, message, { temporary }));
    }
    if (payload.type === "dummy") this.#take(payload.id)?.resolve(undefined);
    return undefined;
  }

  /**
   * @param {WebSocket} socket
   * @param {Report} report
   */
  #authenticated(socket, report) {
    if (!report.good) {
      const stale = Boolean(this.token && this.#options.password && report.error?.code === "authenticationFailed");
      if (stale) this.token = undefined; // it ran out: the next try is with the password
      const { code = "authenticationFailed", message = "refused", temporary = false } = report.error ?? {};
      return this.#lost(socket, message, new BesterError(code, message, { temporary, report }), stale);
    }
    const { server, features = [], limits, token } = report.payload;
    this.#server = server;
    this.#features = features;
    this.#maxMessage = limits?.maxMessage ?? this.#maxMessage;
    this.token = token ?? this.token;
    this.#tries = 0;
    this.#pinged = 0;
    this.#watchSilence(socket);
    this.#become("open");
    for (const entry of this.#pending.values()) socket.send(entry.text);
    this.#opening?.resolve(report);
    this.#opening = null;
    return undefined;
  }

  /** @param {WebSocket} socket */
  #watchSilence(socket) {
    clearTimeout(this.#silenceTimer);
    this.#silenceTimer = setTimeout(() => {
      const now = performance.now();
      if (now - this.#heard < SILENT_S * 1000) {
        this.#pinged = 0;
      } else if (!this.#pinged) {
        this.#pinged = now;
        socket.send(JSON.stringify({ header: {}, payload: { type: "dummy", id: "silence" } }));
      } else if (now - this.#pinged >= (GIVEN_UP_S - SILENT_S) * 1000) {
        return this.#lost(socket, `nothing was heard for ${GIVEN_UP_S} s`); // a sleeping tab pings before it gives up
      }
      return this.#watchSilence(socket);
    }, 1000);
  }

  /**
   * Handles the loss of a connection.
   *
   * @param {WebSocket} socket
   * @param {string} reason
   * @param {BesterError} [error] the server's
   * @param {boolean} [again] whether to connect again at once, whatever the error
   */
  #lost(socket, reason, error = undefined, again = false) {
    if (this.#socket !== socket) return;
    this.#drop();
    const why = error ?? new BesterError("connectionClosed", `the connection was lost: ${reason}`, { temporary: true });
    const first = this.#opening && !error ? new BesterError("connectFailed", reason, { temporary: true }) : why;
    if (again) return void this.#connect();
    if (this.#opening || !this.#options.reconnect || !why.temporary) return void this.#end(first);
    for (const [id, entry] of [...this.#pending]) {
      if (!entry.once) this.#take(id)?.reject(this.#unknownError(why));
    }
    const most = Math.min(PAUSE_MAX_S, PAUSE_MIN_S * 2 ** this.#tries++);
    this.#retryTimer = setTimeout(
      () => this.#connect(),
      Math.max(PAUSE_MIN_S, most * (0.5 + Math.random() / 2)) * 1000,
    );
    this.#become("waiting", why);
  }

  #drop() {
    clearTimeout(this.#silenceTimer);
    const socket = this.#socket;
    this.#socket = null;
    socket?.close();
  }

  /**
   * Stops everything until `open()`.
   *
   * @param {BesterError | null} error null where the application closed the client
   */
  #end(error) {
    clearTimeout(this.#retryTimer);
    this.#drop();
    this.#error = error;
    this.#become("closed", error ?? undefined);
    for (const id of [...this.#pending.keys()]) this.#take(id)?.reject(this.#unknownError(error));
    for (const reader of this.#readers.splice(0)) error ? reader.reject(error) : reader.resolve(undefined);
    this.#opening?.reject(error ?? this.#closedError());
    this.#opening = null;
  }

  /**
   * The error of a message of which it is not known what became.
   *
   * @param {BesterError | null} cause
   */
  #unknownError(cause) {
    const error = new BesterError("connectionClosed", cause?.message ?? "the client was closed", { temporary: true });
    error.cause = cause ?? undefined;
    return error;
  }

  #closedError() {
    if (this.#error) return this.#error;
    const waits = this.#state !== "closed";
    return new BesterError("connectionClosed", waits ? "not connected just now" : "the client is closed", {
      temporary: waits,
    });
  }
}

/** @param {number} count */
function tooMany(count) {
  return new BesterError("slowConsumer", `${count} messages wait, and nobody takes them`);
}

/**
 * @param {string} what
 * @param {number | undefined} timeout
 */
function noneInTime(what, timeout) {
  const text = `no ${what} within ${timeout} s; it is not known what became of the message`;
  return new BesterError("timeout", text, { temporary: true });
}

function defaultUrl() {
  if (!globalThis.location?.host) throw new TypeError("give the url of the server");
  return `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/ws`;
}
