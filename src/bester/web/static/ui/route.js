/**
 * Draws the route of one message: a lane for each server, the time on each edge, failures in red.
 *
 * A route is the list of steps of a status report (docs/protocol.md, section 7). The last handler before a step caused
 * it; a step that is a handler was caused by `sendHandler`. A guard stands before the handler that it guards.
 */

import { h, s } from "./dom.js";
import { count, millis, short } from "./format.js";
import { still } from "./theme.js";

/** @import { Maybe } from "./format.js" */

/**
 * A step as reports and receipts tell it; nested where it is another server's.
 *
 * @typedef {object} RouteStep
 * @property {string} step
 * @property {string} name
 * @property {string} [server]
 * @property {string} status
 * @property {Maybe} [ms]
 * @property {any} [error]
 * @property {number} [parts] that a handler has sent
 * @property {RouteStep[]} [route]
 */

/**
 * A step in the tree that begins at the sender; `via...` is about the other server whose inside this is.
 *
 * @typedef {object} Branch
 * @property {string} kind
 * @property {string} label
 * @property {string} lane the server
 * @property {string} status
 * @property {Maybe} ms
 * @property {any} [error]
 * @property {number} [parts]
 * @property {Branch[]} children
 * @property {Maybe} [viaMs]
 * @property {string} [via]
 * @property {string} [viaStatus]
 * @property {boolean} [many] stands for several steps
 */

/** @typedef {Branch & {row: number, column: number, x: number, y: number}} Placed */
/** @typedef {{from: Placed, to: Placed}} Edge */
/** @typedef {{name: string, taken: Set<string>, rows: number, top: number, height: number}} Lane */

const COLUMN = 196;
const ROW = 62;
const BOX = { width: 132, height: 40 };
const LANE = { left: 24, top: 34, bottom: 16, gap: 14 };
const MOST_SIBLINGS = 6;
const SMALLEST = 0.66;
const GOOD = new Set(["good", "accept", "delivered", "sent", "0", "ok", ""]);
/** @type {Record<string, string>} */
const WORDS = { clients: "account ", mailbox: "mailbox of ", outbox: "outbox for ", server: "server ", guard: "guard ", held: "held for " };
const VERDICTS = new Map([["accept", "accepts"], ["rejected", "rejects"], ["held", "holds"], ["dropped", "drops"]]);
const WAITING = new Set(["stored", "queued", "held", "skipped", "planned", "would", "notAsked", "notasked"]);

/**
 * Returns the colour of a step's status.
 *
 * @param {string | undefined} status
 */
export function kindOf(status) {
  const known = status ?? "";
  if (GOOD.has(known)) return "good";
  return WAITING.has(known) || /^would|plan|skip|not/i.test(known) ? "waiting" : "bad";
}

/**
 * Turns a route into a tree that begins at the sender.
 *
 * @param {RouteStep[]} steps
 * @param {{user?: string | null, server?: string}} from
 * @returns {Branch}
 */
export function toTree(steps, from) {
  const server = from.server ?? steps[0]?.server ?? "";
  /** @type {Branch} */
  const root = { kind: "from", label: from.user ?? "sender", lane: server, status: "good", ms: null, children: [] };
  grow(root, steps, server);
  return root;
}

/**
 * @param {Branch} parent
 * @param {RouteStep[]} steps
 * @param {string} home
 */
function grow(parent, steps, home) {
  let last = parent;
  for (const step of steps) {
    const lane = step.server || home;
    if (step.step === "server" && step.route?.length) {
      // The other server's own route replaces the step: this edge leads to its first handler.
      const before = last.children.length;
      grow(last, step.route, step.route[0].server || step.name);
      const reached = last.children[before];
      if (reached) Object.assign(reached, { viaMs: step.ms, via: step.name, viaStatus: step.status });
      continue;
    }
    /** @type {Branch} */
    const node = {
      kind: step.step,
      label: step.name,
      lane,
      status: step.status,
      ms: step.ms,
      error: step.error,
      parts: step.parts,
      children: [],
    };
    if (step.step === "server" || step.step === "outbox") node.lane = step.step === "server" ? step.name : lane;
    last.children.push(node);
    if (step.step === "handler" || step.step === "guard") last = node;
  }
}

/**
 * Returns the route in words, for people who do not see the picture.
 *
 * @param {Branch} node
 * @returns {string}
 */
export function inWords(node) {
  const parts = node.children.map((child) => {
    const time = child.viaMs ?? child.ms;
    const status = toldStatus(child);
    const inner = inWords(child);
    const at =
      child.kind === "handler" ? `${child.label} at ${child.lane}` : `${WORDS[child.kind] ?? ""}${child.label}`;
    return `${at}${time === null || time === undefined ? "" : ` after ${millis(time)}`}${status}${inner && ` → ${inner}`}`;
  });
  return parts.length > 1 ? parts.map((part) => `(${part})`).join(" and ") : (parts[0] ?? "");
}

/**
 * Returns what is said of a step behind its name and time.
 *
 * @param {Branch} step
 */
function toldStatus({ kind, status, parts }) {
  if (kind === "guard") return `, which ${VERDICTS.get(status) ?? `says nothing (${status})`}`;
  const sent = parts ? `, in ${inParts(parts)}` : "";
  return kindOf(status) === "good" ? sent : `${sent}, ${status}`;
}

/** @param {number} parts */
const inParts = (parts) => `${count(parts)} ${parts === 1 ? "part" : "parts"}`;

/**
 * Replaces many good leaves of one step by one that counts them.
 *
 * @param {Branch} node
 */
function collapse(node) {
  if (node.children.length > MOST_SIBLINGS) {
    const leaves = node.children.filter((child) => !child.children.length && kindOf(child.status) !== "bad");
    const cut = new Set(leaves.slice(MOST_SIBLINGS - 2));
    if (cut.size > 1) {
      const first = [...cut][0];
      node.children = node.children.filter((child) => !cut.has(child));
      node.children.push({ ...first, label: `${cut.size} more`, many: true, children: [] });
    }
    node.children = node.children.slice(0, MOST_SIBLINGS * 2);
  }
  node.children.forEach(collapse);
}

/** @param {Branch} root */
function place(root) {
  /** @type {Map<string, Lane>} */
  const lanes = new Map();
  /** @type {Placed[]} */
  const nodes = [];
  /** @type {Edge[]} */
  const edges = [];
  const laneOf = (/** @type {Branch} */ { lane: name }) => {
    const lane = lanes.get(name) ?? { name, taken: new Set(), rows: 1, top: 0, height: 0 };
    lanes.set(name, lane);
    return lane;
  };
  /** @type {(branch: Branch, column: number, parent: Placed | null) => void} */
  const visit = (branch, column, parent) => {
    const lane = laneOf(branch);
    let row = parent && parent.lane === branch.lane ? parent.row : 0;
    while (lane.taken.has(`${row}:${column}`)) row += 1;
    lane.taken.add(`${row}:${column}`);
    lane.rows = Math.max(lane.rows, row + 1);
    const node = { ...branch, row, column, x: LANE.left + column * COLUMN, y: 0 };
    nodes.push(node);
    if (parent) edges.push({ from: parent, to: node });
    for (const child of branch.children) visit(child, column + 1, node);
  };
  visit(root, 0, null);
  let top = 0;
  for (const lane of lanes.values()) {
    lane.top = top;
    lane.height = LANE.top + lane.rows * ROW - (ROW - BOX.height) + LANE.bottom;
    top += lane.height + LANE.gap;
  }
  for (const node of nodes) node.y = laneOf(node).top + LANE.top + node.row * ROW;
  const width = LANE.left * 2 + Math.max(...nodes.map((node) => node.column)) * COLUMN + BOX.width;
  return { lanes: [...lanes.values()], nodes, edges, width, height: top - LANE.gap };
}

/** @type {Record<string, string>} */
const ICONS = {
  from: "M0-6a3 3 0 1 1 0 6a3 3 0 1 1 0-6M-6 7c0-4 3-6 6-6s6 2 6 6z",
  clients: "M0-6a3 3 0 1 1 0 6a3 3 0 1 1 0-6M-6 7c0-4 3-6 6-6s6 2 6 6z",
  handler: "M-6-6h12v12h-12zM-2-2h4v4h-4z",
  guard: "M0-7l6 2v4c0 4-2.5 6.5-6 8c-3.5-1.5-6-4-6-8v-4z",
  server: "M-6-6h12v5h-12zM-6 1h12v5h-12z",
  mailbox: "M-7-5h14v10h-14zM-7-5l7 6l7-6",
  held: "M-5-6h3v12h-3zM2-6h3v12h-3z",
  outbox: "M-6 6h12M0 4v-10M-4-2l4-4l4 4",
};

/**
 * Draws a route.
 *
 * @param {RouteStep[]} steps
 * @param {{user?: string | null, server?: string}} [from]
 */
export function picture(steps, from = {}) {
  const root = toTree(structuredClone(steps), from);
  const words = `${from.user ?? "sender"} → ${inWords(root)}`;
  collapse(root);
  const { lanes, nodes, edges, width, height } = place(root);
  const svg = s("svg.route", {
    viewBox: `0 0 ${width} ${height}`,
    width,
    height,
    role: "img",
    "aria-label": `The way of the message: ${words}`,
  });
  // The picture shrinks a little to fit, and scrolls beyond that.
  svg.style.maxWidth = `${width}px`;
  svg.style.minWidth = `${Math.round(Math.min(width, Math.max(560, width * SMALLEST)))}px`;
  for (const lane of lanes) {
    svg.append(
      s("rect.lane", { x: 0.5, y: lane.top + 0.5, width: width - 1, height: lane.height - 1, rx: 12 }),
      s("text.lane-name", { x: 16, y: lane.top + 21 }, short(lane.name || "this server", 60)),
    );
  }
  const paths = edges.map((edge) => {
    const { path, middle, end, across } = curve(edge);
    const kind = kindOf(edge.to.viaStatus ?? edge.to.status);
    const line = /** @type {SVGPathElement} */ (s("path", { d: path, class: `edge ${kind}` }));
    svg.append(line, s("path", { d: `M${end.x} ${end.y}l-8-4.5v9z`, class: `arrow ${kind}` }));
    const time = edge.to.viaMs ?? edge.to.ms;
    if (time) {
      const label = millis(time);
      const w = label.length * 6.6 + 14;
      if (across)
        svg.append(s("rect.time-box", { x: middle.x - w / 2, y: middle.y - 11, width: w, height: 22, rx: 11 }));
      const y = across || edge.from.y !== edge.to.y ? middle.y + 4 : middle.y - 8;
      svg.append(s("text", { x: middle.x, y, "text-anchor": "middle", class: `time ${kind}` }, label));
    }
    return line;
  });
  for (const node of nodes) svg.append(drawNode(node));
  const dot = s("circle.traveller", { r: 5, cx: -20, cy: -20 });
  svg.append(dot);
  const frame = h("div.route-frame", { tabindex: 0, role: "group", "aria-label": "Route, scrolls sideways" }, svg);
  if (!still()) travel(frame, dot, paths);
  return h("figure.route-figure", null, frame, h("figcaption.words", null, words));
}

/** @param {Placed} node */
function drawNode(node) {
  const group = s("g", {
    class: `node ${node.kind} ${kindOf(node.status)}`,
    transform: `translate(${node.x} ${node.y})`,
  });
  const round = node.kind === "from" || node.kind === "clients" ? BOX.height / 2 : 9;
  const sent = node.parts ? inParts(node.parts) : "";
  const title = [node.label, node.status, sent, node.error?.message ?? node.error?.code ?? node.error]
    .filter(Boolean)
    .join(" – ");
  const good = kindOf(node.status) === "good";
  const verdict = node.kind === "guard" && VERDICTS.get(node.status);
  const below = verdict || (good ? sent : node.status);
  group.append(
    s("title", null, title),
    s("rect.box", { width: BOX.width, height: BOX.height, rx: round }),
    s("path.icon", { d: ICONS[node.kind] ?? ICONS.handler, transform: "translate(20 20)" }),
    s("text.name", { x: 36, y: below ? 18 : 25 }, short(node.label, 12)),
  );
  if (below) group.append(s("text.state", { x: 36, y: 32 }, short(below, 14)));
  return group;
}

/** @param {Edge} edge */
function curve({ from, to }) {
  const a = { x: from.x + BOX.width, y: from.y + BOX.height / 2 };
  const b = { x: to.x, y: to.y + BOX.height / 2 };
  const across = from.lane !== to.lane;
  const reach = (b.x - a.x) / 2;
  const path = `M${a.x} ${a.y}C${a.x + reach} ${a.y} ${b.x - reach} ${b.y} ${b.x - 4} ${b.y}`;
  return { path, across, end: b, middle: { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2 } };
}

/**
 * Moves a dot along the whole route once, as long as the picture is in the page.
 *
 * @param {HTMLElement} frame
 * @param {SVGElement} dot
 * @param {SVGPathElement[]} paths
 */
function travel(frame, dot, paths) {
  /** @type {number[]} */
  const lengths = [];
  let at = 0;
  /** @type {number | null} */
  let begun = null;
  const step = (/** @type {number} */ now) => {
    if (!frame.isConnected) {
      if (begun === null) requestAnimationFrame(step);
      return;
    }
    begun ??= now + 300;
    lengths[at] ??= paths[at]?.getTotalLength() ?? 0;
    const part = Math.max(0, (now - begun) / 420);
    if (part >= 1) {
      at += 1;
      begun = now;
      if (at >= paths.length) return void dot.remove();
    } else {
      const eased = part < 0.5 ? 2 * part * part : 1 - 2 * (1 - part) ** 2;
      const point = paths[at].getPointAtLength(lengths[at] * eased);
      dot.setAttribute("cx", String(point.x));
      dot.setAttribute("cy", String(point.y));
    }
    requestAnimationFrame(step);
  };
  if (paths.length) requestAnimationFrame(step);
}
