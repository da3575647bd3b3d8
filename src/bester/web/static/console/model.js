/**
 * What the server says, in the form that the pages use (docs/web.md describes the other side).
 */

const KEPT_S = 600;
const ACTIVE_S = 20;
const MOST_ACTIVE = 60;

/** The numbers of the last ten minutes and the newest picture of the server. */
export class Live {
  constructor() {
    /** @type {{time: number, messages: number, deliveries: number, errors: number, mean: number|null, p95: number|null}[]} */
    this.points = [];
    this.now = null;
    this.connected = false;
    this.listeners = new Set();
    this.active = new Map();
    this.met = new Map();
  }

  history({ columns, rows }) {
    this.points = rows.map((row) => toPoint(Object.fromEntries(columns.map((name, at) => [name, row[at]]))));
    this.#trim();
    this.#tell();
  }

  take(event) {
    this.now = this.#toNow(event);
    this.points.push(toPoint({ time: event.time, ...event.rates, ...event.latency, sessions: event.counts.sessions }));
    this.#trim();
    this.#tell(true);
  }

  state(connected) {
    if (this.connected === connected) return;
    this.connected = connected;
    this.#tell();
  }

  /** Some of those that are connected, from `listClients`: they stay in the picture although they do nothing. */
  meet(clients) {
    this.met = new Map(clients.map(({ username, sessions }) => [username, sessions.length]));
  }

  /** Calls a listener with whether there is a new picture; returns how to stop that. */
  listen(listener) {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  #trim() {
    const end = this.points.at(-1)?.time ?? 0;
    // What lies ahead was told before the server's clock was set back.
    const first = this.points.findIndex(({ time }) => time >= end - KEPT_S && time <= end);
    if (first > 0) this.points.splice(0, first);
  }

  #tell(fresh = false) {
    for (const listener of this.listeners) listener(fresh);
  }

  #toNow(event) {
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
    const servers = event.servers.map(({ name, link, waiting, dead, retryIn }) => ({
      name,
      link,
      waiting,
      dead,
      up: link !== "down" || !(waiting || retryIn),
    }));
    const servernames = new Set(servers.map(({ name }) => name));
    const movements = event.movements.flatMap((movement) => toMovements(movement, servernames));
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
      movements,
      problems: event.problems.map(toProblem),
    };
  }
}

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

/** One dot for each of the first recipients. */
function toMovements({ from, scope, type, to, outcome }, servers) {
  const good = outcome === "good" || outcome === "underWay";
  const origin = { client: "clients", server: "servers" }[scope];
  const begin = origin && { kind: origin, name: from ?? "" };
  const ends = to
    .slice(0, 3)
    .map((name) => ({ kind: servers.has(name) || /[:/]/.test(name) ? "servers" : "clients", name }));
  return (ends.length ? ends : [null]).map((end) => ({ from: begin, types: [type], to: end, good }));
}

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

/** One receipt of the command `trace`. */
export function toReceipt(row) {
  const good = row.outcome === "good";
  const { counts = {}, first = [] } = row.recipients ?? {};
  const recipients = Object.values(counts).reduce((sum, number) => sum + number, 0);
  const more = recipients - Math.min(3, first.length);
  const receipt = {
    ...row,
    good,
    from: row.from ?? "somebody unproven",
    message: row.message,
    results: first,
    recipients,
    to:
      first
        .slice(0, 3)
        .map(({ to }) => to)
        .join(", ") + (more > 0 ? ` and ${more} more` : ""),
  };
  receipt.steps = row.route?.length ? row.route : stepsOf(receipt);
  return receipt;
}

/** What a receipt tells of the way where nobody asked for the route: the handler, and the recipients. */
function stepsOf({ type, ms, outcome, good, results }) {
  const failed = !good && !results.length;
  const places = { stored: "mailbox", queued: "outbox", sent: "server" };
  return [
    { server: "", step: "handler", name: type, ms, status: failed ? outcome : "good" },
    ...results.map(({ to, status, code }) => ({
      server: "",
      name: to,
      ms: null,
      status: code ?? status,
      step: places[status] ?? (/[:/]/.test(to) ? "server" : "clients"),
    })),
  ];
}
