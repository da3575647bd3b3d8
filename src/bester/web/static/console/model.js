/** Turns the server's events (docs/web.md) into what the views show. */

/** @import { RouteStep } from "../ui/route.js" */

/**
 * One second of the last ten minutes.
 *
 * @typedef {object} Point
 * @property {number} time
 * @property {number} messages
 * @property {number} deliveries
 * @property {number} sessions
 * @property {number} errors percent
 * @property {number | null} mean milliseconds
 * @property {number | null} p95 milliseconds
 */

/** @typedef {"clients" | "types" | "servers"} Kind */
/** @typedef {{kind: Kind, name: string}} End one end of a movement; the name is "" where it is not known */
/** @typedef {{from: End | undefined, types: string[], to: End | null, good: boolean}} Movement */
/** @typedef {{name: string, sessions?: number, rate?: number}} ClientItem */
/** @typedef {{name: string, up: boolean, rate: number, failed: number, ms: number | null}} TypeItem */
/** @typedef {{name: string, link: string, waiting: number, dead: number, up: boolean}} ServerItem */
/** @typedef {{error: boolean, text: string, view: string | null}} ShownProblem */

/**
 * The newest picture of the server.
 *
 * @typedef {object} Now
 * @property {any} server
 * @property {any} counts
 * @property {any} totals
 * @property {number} clientCount
 * @property {ClientItem[]} clients
 * @property {TypeItem[]} types
 * @property {ServerItem[]} servers
 * @property {any[]} nodes
 * @property {any[]} recordings
 * @property {Movement[]} movements
 * @property {ShownProblem[]} problems
 */

const KEPT_S = 600;
const ACTIVE_S = 20;
const MOST_ACTIVE = 60;

/**
 * What a view gets: the element that it fills, the element for its tools, the live numbers, and the rest of the hash.
 *
 * @typedef {{page: HTMLElement, tools: HTMLElement, live: Live, rest: string[]}} Place
 */

/** Keeps the numbers of the last ten minutes and the newest picture of the server. */
export class Live {
  constructor() {
    /** @type {Point[]} */
    this.points = [];
    /** @type {Now | null} */
    this.now = null;
    this.connected = false;
    /** @type {Set<(fresh: boolean) => void>} */
    this.listeners = new Set();
    /**
     * When each account that sends or receives was last seen.
     *
     * @type {Map<string, number>}
     */
    this.active = new Map();
    /**
     * How many sessions some of the accounts have.
     *
     * @type {Map<string, number>}
     */
    this.met = new Map();
  }

  /** @param {{columns: string[], rows: any[][]}} event */
  history({ columns, rows }) {
    this.points = rows.map((row) => toPoint(Object.fromEntries(columns.map((name, at) => [name, row[at]]))));
    this.#trim();
    this.#tell();
  }

  /** @param {any} event */
  take(event) {
    this.now = this.#toNow(event);
    this.points.push(toPoint({ time: event.time, ...event.rates, ...event.latency, sessions: event.counts.sessions }));
    this.#trim();
    this.#tell(true);
  }

  /** @param {boolean} connected */
  state(connected) {
    if (this.connected === connected) return;
    this.connected = connected;
    this.#tell();
  }

  /**
   * Takes some of the connected accounts, from `listClients`: they stay in the picture although they do nothing.
   *
   * @param {{username: string, sessions: any[]}[]} clients
   */
  meet(clients) {
    this.met = new Map(clients.map(({ username, sessions }) => [username, sessions.length]));
  }

  /**
   * Calls a listener at each change, with whether there is a new picture; returns a function that ends this.
   *
   * @param {(fresh: boolean) => void} listener
   */
  listen(listener) {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  #trim() {
    const end = this.points.at(-1)?.time ?? 0;
    // Points in the future were made before the server's clock was set back.
    const first = this.points.findIndex(({ time }) => time >= end - KEPT_S && time <= end);
    if (first > 0) this.points.splice(0, first);
  }

  #tell(fresh = false) {
    for (const listener of this.listeners) listener(fresh);
  }

  /**
   * @param {any} event
   * @returns {Now}
   */
  #toNow(event) {
    /** @type {Map<string, boolean>} */
    const serving = new Map();
    for (const { types, state } of event.handlers) {
      for (const type of types) serving.set(type, serving.get(type) || state === "up" || state === "draining");
    }
    const names = new Set([...Object.keys(event.types), ...serving.keys()]);
    const types = [...names].map((name) => {
      const { answered = 0, failed = 0, meanMs = null } = event.types[name] ?? {};
      return { name, up: Boolean(serving.get(name)), rate: answered + failed, failed, ms: meanMs };
    });
    types.sort((a, b) => b.rate - a.rate || (a.name < b.name ? -1 : 1));
    /** @type {ServerItem[]} */
    const servers = event.servers.map((/** @type {any} */ { name, link, waiting, dead, retryIn }) => ({
      name,
      link,
      waiting,
      dead,
      up: link !== "down" || !(waiting || retryIn),
    }));
    const servernames = new Set(servers.map(({ name }) => name));
    /** @type {Movement[]} */
    const movements = event.movements.flatMap((/** @type {any} */ movement) => toMovements(movement, servernames));
    for (const { from, to } of movements) {
      for (const end of [from, to]) {
        if (end?.kind !== "clients" || !end.name) continue;
        this.active.delete(end.name);
        this.active.set(end.name, event.time);
      }
    }
    for (const [name, time] of this.active) {
      if (time > event.time - ACTIVE_S && this.active.size <= MOST_ACTIVE) break;
      this.active.delete(name);
    }
    const clients = [...new Set([...[...this.active.keys()].reverse(), ...this.met.keys()])];
    return {
      server: event.server,
      counts: event.counts,
      totals: event.totals,
      clientCount: Math.max(event.counts.online, Math.min(clients.length, 1)),
      clients: clients
        .slice(0, Math.max(event.counts.online, 1))
        .map((name) => ({ name, sessions: this.met.get(name) })),
      types,
      servers,
      nodes: event.nodes ?? [],
      recordings: event.recordings ?? [],
      movements,
      problems: event.problems.map(toProblem),
    };
  }
}

/**
 * @param {any} row
 * @returns {Point}
 */
function toPoint(row) {
  const { time, good = 0, bad = 0, deliveries = 0, meanMs = null, p95Ms = null, sessions = 0 } = row;
  const messages = good + bad;
  return {
    time,
    messages,
    deliveries,
    sessions,
    errors: messages ? (100 * bad) / messages : 0,
    mean: meanMs,
    p95: p95Ms,
  };
}

/** @type {Record<string, Kind>} */
const ORIGINS = { client: "clients", server: "servers" };

/**
 * Makes a movement for each of the first recipients.
 *
 * @param {any} movement
 * @param {Set<string>} servers
 * @returns {Movement[]}
 */
function toMovements({ from, scope, type, to, outcome }, servers) {
  const good = outcome === "good";
  const origin = ORIGINS[scope];
  const begin = origin && { kind: origin, name: from ?? "" };
  /** @type {End[]} */
  const ends = to.slice(0, 3).map((/** @type {string} */ name) => ({
    kind: servers.has(name) || /[:/]/.test(name) ? "servers" : "clients",
    name,
  }));
  return (ends.length ? ends : [null]).map((end) => ({ from: begin, types: [type], to: end, good }));
}

/**
 * The words before each kind of problem, and the view that shows more.
 *
 * @type {Record<string, [string, string | null]>}
 */
const PROBLEMS = {
  certificate: ["Certificate:", "servers"],
  clock: ["The system clock was", null],
  disk: ["Disk:", null],
  queue: ["For the server", "servers"],
  deadLetters: ["Dead letters for", "servers"],
  mailbox: ["The mailbox of", "accounts"],
  unacknowledged: ["The account", "accounts"],
  handler: ["The handler of", "handlers"],
  loop: ["The server is busy:", null],
  store: ["The store", null],
  bus: ["The nodes' connection:", null],
  node: ["The node", null],
  release: ["The release", null],
};

/**
 * @param {any} problem
 * @returns {ShownProblem}
 */
function toProblem({ what, name, detail, since, node }) {
  const [words, view] = PROBLEMS[what] ?? [what, null];
  const error =
    ["disk", "store", "deadLetters", "handler", "bus", "node", "release"].includes(what) ||
    (what === "certificate" && since !== undefined);
  const mark = ["mailbox", "store", "node"].includes(what) ? " –" : ":";
  const where = node && what !== "node" ? ` (node ${node})` : "";
  return { error, text: `${words} ${name}${mark} ${detail}${where}`, view };
}

// -- receipts -------------------------------------------------------------------------------------------------------

/**
 * A receipt of the command `trace`, as the views show it.
 *
 * @typedef {object} Receipt
 * @property {string} trace
 * @property {number} at
 * @property {string} from
 * @property {string} type
 * @property {string} to
 * @property {string} outcome
 * @property {"good" | "waiting" | "bad"} kind
 * @property {number} ms
 * @property {string} id
 * @property {string} [node]
 * @property {string} [message]
 * @property {any[]} results of the first recipients
 * @property {number} recipients how many there were
 * @property {RouteStep[]} [route]
 * @property {RouteStep[]} steps the route, or what is known of it
 */

/**
 * @param {any} row
 * @returns {Receipt}
 */
export function toReceipt(row) {
  /** @type {{counts?: Record<string, number>, first?: any[]}} */
  const { counts = {}, first = [] } = row.recipients ?? {};
  const recipients = Object.values(counts).reduce((sum, number) => sum + number, 0);
  const more = recipients - Math.min(3, first.length);
  const isHeld = row.outcome === "good" && counts.held > 0;
  const names = first.slice(0, 3).map(({ to }) => to);
  return {
    ...row,
    outcome: isHeld ? "held" : row.outcome,
    kind: isHeld ? "waiting" : row.outcome === "good" ? "good" : "bad",
    from: row.from ?? "somebody unproven",
    results: first,
    recipients,
    to: names.join(", ") + (more > 0 ? ` and ${more} more` : ""),
    steps: row.route?.length ? row.route : stepsOf(row, first),
  };
}

/** @type {Record<string, string>} */
const PLACES = { stored: "mailbox", queued: "outbox", sent: "server", held: "held" };
/** What only guards decide; a receipt without a route does not name the guard. */
const VERDICTS = new Set(["rejected", "dropped", "held"]);

/**
 * Returns the part of the route that a receipt knows if nobody asked for the route: the handler, and the recipients.
 *
 * @param {any} row
 * @param {any[]} results
 * @returns {RouteStep[]}
 */
function stepsOf({ type, ms, outcome }, results) {
  const verdict = [outcome, results[0]?.status].find((one) => VERDICTS.has(one));
  const failed = outcome !== "good" && !results.length;
  return [
    verdict
      ? { server: "", step: "guard", name: `of ${type}`, ms, status: verdict }
      : { server: "", step: "handler", name: type, ms, status: failed ? outcome : "good" },
    ...results.map(({ to, status, code }) => ({
      server: "",
      name: to,
      ms: null,
      status: code ?? status,
      step: PLACES[status] ?? (/[:/]/.test(to) ? "server" : "clients"),
    })),
  ];
}
