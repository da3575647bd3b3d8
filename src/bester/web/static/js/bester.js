/**
 * Bester for browsers and Node: one account's session on a server, over a WebSocket.
 *
 *   const client = await Client.connect("wss://example.org/ws", { username: "t", password: "secret" });
 *   const report = await client.send("chat", { text: "hello" }, { once: true });
 *   for await (const message of client) console.log(message.type, message.data);
 *
 * A lost connection is opened again by itself. What was sent with `once` is then sent again with the same id, which the
 * server recognises, until there is a report on it; anything else that had no report fails with `connectionClosed`, and
 * its sender decides. Received messages are acknowledged when the application is done with them, and given out once
 * although they may be delivered twice.
 */

const AUTHENTICATION_ID = "auth_special";
const PAUSE_MIN_S = 0.1;
const PAUSE_MAX_S = 30;
const SILENT_S = 15;
const GIVEN_UP_S = 30;
const REMEMBERED = 10_000;
const STORED = 2_000;

/** Everything that goes wrong. `code` is the server's, or one of the client's own, which docs/javascript.md lists. */
export class BesterError extends Error {
  /**
   * @param {string} code stable, for programs
   * @param {string} message for people
   * @param {{temporary?: boolean, report?: Report, reason?: string}} [more]
   */
  constructor(code, message, { temporary = false, report, reason = "" } = {}) {
    super(message);
    this.name = "BesterError";
    this.code = code;
    this.temporary = temporary;
    this.report = report;
    /** With the code `handlerError`: the handler's own code, where it gave one. */
    this.reason = reason;
  }
}

// JSON's strings, and its numbers in parentheses.
const TOKENS = /"(?:[^"\\]+|\\.)*"|(-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)/g;
const ROUNDED = 15; // digits that a number keeps in any case

/** What came with `data`: the value as JSON.parse makes it, and how it stood in the frame. */
class WithData {
  #text;
  #raw;

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

  /** Whether each number of `data` is the one that was sent; one beyond 2^53 or 1.8e308 may not be. See `raw`. */
  get exact() {
    for (const [, number] of (this.raw ?? "").matchAll(TOKENS)) if (number && !isExact(number)) return false;
    return true;
  }
}

function isExact(text) {
  const value = Number(text);
  if (!Number.isFinite(value)) return false;
  if (/^-?\d+$/.test(text)) return Number.isSafeInteger(value) || (text.length < 400 && BigInt(value) === BigInt(text));
  const digits = text.replace(/[eE].*|[-.]/g, "").replace(/^0+|0+$/g, "");
  return digits.length <= ROUNDED && (value !== 0 || digits === "");
}

/** JSON does not have infinities, and JSON.stringify would write null for them. */
function refuseNotFinite(key, value) {
  if (typeof value !== "number" || Number.isFinite(value)) return value;
  throw new BesterError("badNumber", `JSON does not have the number ${value}${key && `, which ${key} is`}`);
}

/** Returns the text of a member of an object's JSON that JSON.parse has taken; of a repeated key that of the last. */
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

/** A message that a handler sent to this client. */
export class Message extends WithData {
  constructor({ type, data = null, deliveryId, replyTo }, text) {
    super(data, text);
    this.type = type;
    this.deliveryId = deliveryId;
    this.replyTo = replyTo;
  }
}

/** What the server tells of one message. */
export class Report extends WithData {
  /**
   * @param {{header?: any, payload?: any}} frame a status report as it came
   * @param {string} [text] its JSON
   */
  constructor({ header, payload }, text) {
    super(payload?.data, text);
    this.id = payload?.id ?? "";
    /** Whether every recipient has the message, or it is on disk at a server that goes on trying. */
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

/** The delivery ids that are done with: the newest ten thousand in memory, the newest two thousand in a storage. */
class Done {
  constructor(storage, key) {
    this.storage = storage;
    this.key = key;
    this.ids = new Set();
    this.saving = false;
    try {
      for (const id of JSON.parse(storage?.getItem(key) ?? "[]")) this.ids.add(id);
    } catch {
      // What cannot be read is as if it had not been kept.
    }
  }

  has(id) {
    return this.ids.has(id);
  }

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

export class Client {
  #url;
  #options;
  #socket = null;
  #state = "closed";
  #error = null;
  #opening = null;
  #pending = new Map();
  #asked = new Map();
  #inbox = [];
  #readers = [];
  #handed = [];
  #holding = new Set();
  #acks = [];
  #done;
  #onmessage = null;
  #nextId = 1;
  #prefix = (globalThis.crypto?.randomUUID?.() ?? `${Date.now()}${Math.random()}`).replace(/\W/g, "");
  #tries = 0;
  #retryTimer;
  #silenceTimer;
  #heard = 0;
  #pinged = 0;

  /**
   * @param {string} [url] `ws:` or `wss:`; in a browser, where it is left out, `/ws` of the page's server
   * @param {object} [options]
   * @param {string} options.username
   * @param {string} [options.password]
   * @param {string} [options.token] from an earlier session's `token`, in place of the password
   * @param {string[]} [options.features] what to ask of the server: `ack`, `route`, `token`; `replyTo` always is
   * @param {boolean | string[]} [options.mail] whether to take the account's messages (true), or of which types; the
   *   others stay where they are. Whoever only sends and asks gives false, and is sent nothing but replies.
   * @param {boolean} [options.reconnect] whether a lost connection is opened again (true)
   * @param {Storage} [options.storage] such as `localStorage`: remembers over a reload which deliveries are done with
   * @param {number} [options.maxQueued] received messages that wait to be taken, without `ack` (10,000)
   * @param {number} [options.connectTimeout] seconds, for connecting and authenticating (10)
   * @param {typeof WebSocket} [options.WebSocket] another implementation
   */
  constructor(url = defaultUrl(), options = {}) {
    const defaults = { features: ["ack", "route", "token"], mail: true, reconnect: true, maxQueued: 10_000, connectTimeout: 10 };
    this.#url = url;
    this.#options = { ...defaults, WebSocket: globalThis.WebSocket, ...options };
    if (!this.#options.WebSocket) throw new TypeError("there is no WebSocket here; give one as options.WebSocket");
    this.#done = new Done(this.#options.storage, `bester:${url}:${options.username}`);
    /** With the feature `token`: what stands in place of the password. Keep it secret. */
    this.token = options.token;
    /** The features that the server granted. */
    this.features = [];
    /** The server's name, if it told. */
    this.server = undefined;
    /** The largest message in bytes that the server takes. */
    this.maxMessage = 1024 * 1024;
    /** Called with each new state, `connecting`, `open`, `waiting` or `closed`, and the error that led there. */
    this.onstate = null;
    /** Called with what `onmessage` threw; the message is delivered again some time. */
    this.onerror = (error) => console.error("bester: onmessage failed", error);
  }

  /** Returns an open client; the arguments are those of the class. */
  static async connect(url, options) {
    const client = new Client(url, options);
    await client.open();
    return client;
  }

  get state() {
    return this.#state;
  }

  /**
   * Connects and authenticates. Rejects where the server cannot be reached or does not want this account; it is only
   * after a first success that a lost connection is opened again by itself.
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

  /** Ends the connection for good; what has no report fails. Messages that were given out count as done with. */
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
   * @param {object} [options]
   * @param {string} [options.id] an own one, different from those that have no report yet
   * @param {boolean} [options.once] sent again over reconnections until there is a report; never handled twice
   * @param {boolean} [options.route] the report tells the way that the message took
   * @param {boolean} [options.dryRun] nothing is delivered, the report tells the way that it would take
   * @param {number} [options.timeout] seconds; after them it is not known what became of the message
   * @returns {Promise<Report>}
   */
  send(type, data = null, { id, once = false, route = false, dryRun = false, timeout } = {}) {
    const header = {};
    if (once) header.once = true;
    if (route) header.route = true;
    if (dryRun) header.dryRun = true;
    id ??= once ? `${this.#prefix}-${this.#nextId++}` : String(this.#nextId++);
    return this.#ask({ header, payload: { type, id, data } }, { once, timeout });
  }

  /**
   * Sends a message and resolves with what a handler replies to it, `{type, data, deliveryId, replyTo}`; any number at
   * once. The first reply counts, also where something else that the message led to fails; it is not received
   * otherwise, and further replies, or one that comes after the timeout, are dropped.
   *
   * Rejects with the server's code where the message is reported bad, or with `noReply`, and nobody replied.
   *
   * @param {string} type names the handler
   * @param {any} [data] any JSON value
   * @param {object} [options]
   * @param {number} [options.timeout] seconds; after them it is not known what became of the message
   * @returns {Promise<{type: string, data: any, deliveryId?: string, replyTo: string}>}
   */
  async ask(type, data = null, { timeout } = {}) {
    if (this.#state === "open" && !this.features.includes("replyTo")) {
      throw new BesterError("unsupported", "the server does not say what a reply answers (the feature replyTo)");
    }
    const id = `${this.#askedPrefix}${this.#nextId++}`;
    const answer = new Promise((resolve) => this.#asked.set(id, resolve));
    const reported = this.#ask({ header: {}, payload: { type, id, data } }, { timeout }).then((report) => {
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

  get #askedPrefix() {
    return `${this.#prefix}-a`; // so of this client, over all of its connections
  }

  /** Runs a built-in command and resolves with its result; rejects with the server's code. */
  async builtin(command, args = {}, { timeout } = {}) {
    const data = { command: { type: command, args } };
    const message = { header: {}, payload: { type: "builtin", id: String(this.#nextId++), data } };
    return (await this.#ask(message, { timeout })).orThrow().data;
  }

  /** Asks whether the server is there; resolves with the seconds that the answer took. */
  async ping({ timeout = SILENT_S } = {}) {
    const begun = performance.now();
    await this.#ask({ header: {}, payload: { type: "dummy", id: `ping-${this.#nextId++}` } }, { timeout });
    return (performance.now() - begun) / 1000;
  }

  /** Ends the session with the token that it got, and the connection. */
  async logout() {
    await this.builtin("logout");
    this.token = undefined;
    this.close();
  }

  #ask(message, { once = false, timeout } = {}) {
    return new Promise((resolve, reject) => {
      const { id } = message.payload;
      const text = JSON.stringify(message, refuseNotFinite);
      if (id === AUTHENTICATION_ID) throw new BesterError("badId", `the id ${id} belongs to the protocol`);
      if (this.#pending.has(id)) throw new BesterError("badId", `a message with the id ${id} has no report yet`);
      const size = text.length * 3 > this.maxMessage ? new TextEncoder().encode(text).length : 0;
      if (size > this.maxMessage) throw new BesterError("tooLarge", `${size} bytes; ${this.maxMessage} are allowed`);
      if (this.#state === "closed" || (this.#state !== "open" && !once)) throw this.#closedError();
      const entry = { text, once, resolve, reject, timer: undefined };
      if (timeout !== undefined) entry.timer = setTimeout(() => this.#timedOut(id, timeout), timeout * 1000);
      this.#pending.set(id, entry);
      if (this.#state === "open") this.#socket.send(text);
    });
  }

  #timedOut(id, timeout) {
    const text = `no report within ${timeout} s; it is not known what became of the message`;
    this.#take(id)?.reject(new BesterError("timeout", text, { temporary: true }));
  }

  #take(id) {
    const entry = this.#pending.get(id);
    if (!entry) return undefined;
    this.#pending.delete(id);
    clearTimeout(entry.timer);
    return entry;
  }

  // -- receiving ----------------------------------------------------------------------------------------------------

  /**
   * Called with each received message, a `Message`. It is acknowledged when what the function returns has
   * resolved; where it throws or rejects, the message is not acknowledged, and delivered again some time.
   */
  get onmessage() {
    return this.#onmessage;
  }

  set onmessage(callback) {
    this.#onmessage = callback;
    if (callback) for (const message of this.#inbox.splice(0)) this.#call(message);
  }

  /**
   * Resolves with the next message, and acknowledges the one before; undefined when the client was closed and all is
   * taken. There must be one reader, and no `onmessage`.
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

  async *[Symbol.asyncIterator]() {
    for (;;) {
      const message = await this.receive();
      if (message === undefined) return;
      yield message;
    }
  }

  #handOut(message, resolve) {
    if (message.deliveryId !== undefined) this.#handed.push(message.deliveryId);
    resolve(message);
  }

  #settleHanded() {
    if (this.#handed.length) this.#acknowledge(this.#handed.splice(0));
  }

  #received(payload, text) {
    const { deliveryId, replyTo } = payload;
    if (deliveryId !== undefined) {
      if (this.#done.has(deliveryId)) return this.#acknowledge([deliveryId]);
      if (this.#holding.has(deliveryId)) return undefined; // it is acknowledged when the application is done with it
      this.#holding.add(deliveryId);
    }
    const message = new Message(payload, text);
    if (replyTo?.startsWith(this.#askedPrefix)) {
      this.#asked.get(replyTo)?.(message);
      this.#asked.delete(replyTo);
      return deliveryId === undefined ? undefined : this.#acknowledge([deliveryId]);
    }
    if (this.#onmessage) return this.#call(message);
    const reader = this.#readers.shift();
    if (reader) return this.#handOut(message, reader.resolve);
    this.#inbox.push(message);
    if (deliveryId === undefined && this.#inbox.length > this.#options.maxQueued) {
      this.#end(new BesterError("slowConsumer", `${this.#options.maxQueued} messages wait, and nobody takes them`));
    }
    return undefined;
  }

  async #call(message) {
    try {
      await this.#onmessage(message);
      if (message.deliveryId !== undefined) this.#acknowledge([message.deliveryId]);
    } catch (error) {
      this.#holding.delete(message.deliveryId);
      this.onerror?.(error);
    }
  }

  #acknowledge(ids) {
    for (const id of ids) this.#holding.delete(id);
    if (!this.#acks.length) queueMicrotask(() => this.#flushAcks());
    this.#acks.push(...ids);
  }

  #flushAcks() {
    if (!this.#acks.length) return;
    const ids = this.#acks.splice(0);
    this.#done.add(ids);
    // Without a connection nothing is lost: the server delivers them again, and finds them done with.
    if (this.#state === "open") {
      this.#socket.send(JSON.stringify({ header: { messageType: "ack" }, payload: { ids } }));
    }
  }

  // -- the connection -----------------------------------------------------------------------------------------------

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
    const gone = (reason) => {
      clearTimeout(timer);
      this.#lost(socket, reason);
    };
    socket.onerror = () => gone("the connection failed"); // not everywhere does a close follow
    socket.onclose = (event) => gone(event.reason || "closed by the server");
    return undefined;
  }

  #hello() {
    const { username, password, mail } = this.#options;
    const features = [...new Set([...this.#options.features, "replyTo"])];
    const authentication = this.token ? { username, token: this.token } : { username, password };
    const header = { scope: "client", features, authentication };
    if (mail !== true) header.mail = mail;
    return { header, payload: { type: "dummy" } };
  }

  #dispatch(socket, frame, text, timer) {
    const { header = {}, payload = {} } = frame;
    if (header.messageType === "statusReport") {
      const report = new Report(frame, text);
      if (report.id !== AUTHENTICATION_ID) return this.#take(report.id)?.resolve(report);
      clearTimeout(timer);
      return this.#authenticated(socket, report);
    }
    if (header.messageType === "receivedMessage") return this.#received(payload, text);
    if (header.messageType === "fatal") {
      const { code = "internal", message = "ended by the server", temporary = false } = payload.error ?? {};
      return this.#lost(socket, message, new BesterError(code, message, { temporary }));
    }
    if (payload.type === "dummy") this.#take(payload.id)?.resolve(undefined);
    return undefined;
  }

  #authenticated(socket, report) {
    if (!report.good) {
      const stale = this.token && this.#options.password && report.error?.code === "authenticationFailed";
      if (stale) this.token = undefined; // it ran out: the next try is with the password
      const { code = "authenticationFailed", message = "refused", temporary = false } = report.error ?? {};
      return this.#lost(socket, message, new BesterError(code, message, { temporary, report }), stale);
    }
    const { server, features = [], limits, token } = report.payload;
    this.server = server;
    this.features = features;
    this.maxMessage = limits?.maxMessage ?? this.maxMessage;
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

  /** A connection is gone; `again` says that another try is worth it, whatever the error. */
  #lost(socket, reason, error = undefined, again = false) {
    if (this.#socket !== socket) return;
    this.#drop();
    const why = error ?? new BesterError("connectionClosed", `the connection was lost: ${reason}`, { temporary: true });
    const first = this.#opening && !error ? new BesterError("connectFailed", reason, { temporary: true }) : why;
    if (again) return void this.#connect();
    if (this.#opening || !this.#options.reconnect || !why.temporary) return void this.#end(first);
    for (const [id, entry] of [...this.#pending]) {
      if (!entry.once) this.#take(id).reject(this.#unknownError(why));
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

  /** Nothing more will happen until `open()`; `error` is null where the application wanted it so. */
  #end(error) {
    clearTimeout(this.#retryTimer);
    this.#drop();
    this.#error = error;
    this.#become("closed", error ?? undefined);
    for (const id of [...this.#pending.keys()]) this.#take(id).reject(this.#unknownError(error));
    for (const reader of this.#readers.splice(0)) error ? reader.reject(error) : reader.resolve(undefined);
    this.#opening?.reject(error ?? this.#closedError());
    this.#opening = null;
  }

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

function defaultUrl() {
  if (!globalThis.location?.host) throw new TypeError("give the url of the server");
  return `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/ws`;
}
