/**
 * Draws the living picture: clients, types and other servers, and the messages between them as dots.
 *
 * The boxes are an SVG, rebuilt only when something comes or goes; the dots are a canvas above it. At most fifty dots
 * start in a second and at most two hundred are under way: the picture shows the traffic, and does not count it.
 */

import { h, replace, s, setText } from "../ui/dom.js";
import { count, millis, rate, short } from "../ui/format.js";
import { colour, onchange, still } from "../ui/theme.js";

/** @import { ClientItem, End, Kind, Movement, ServerItem, TypeItem } from "./model.js" */

/** @typedef {{clients: ClientItem[], types: TypeItem[], servers: ServerItem[], clientCount: number}} Data */
/** @typedef {ClientItem | TypeItem | ServerItem} Item */
/** @typedef {{x: number, y: number}} Spot */
/** @typedef {{a: Spot, b: Spot}} Leg from a to b */

/** @type {Kind[]} */
const KINDS = ["clients", "types", "servers"];
const TITLES = { clients: "CLIENTS", types: "TYPES", servers: "OTHER SERVERS" };
const ROWS = { clients: 9, types: 8, servers: 8 };
const ROW = 44;
const BOX = 34;
const TOP = 52;
const MOST_DOTS = 200;
const PER_SECOND = 50;
const LEG_MS = 620;

export function living() {
  const svg = s("svg", { role: "img", "aria-label": "Clients, types and servers" });
  const canvas = h("canvas", { "aria-hidden": "true" });
  const stage = h("div.stage", null, svg, canvas);
  let size = { width: 0, height: 0 };
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  /** @type {Data} */
  let data = { clients: [], types: [], servers: [], clientCount: 0 };
  let drawn = "";
  /** @type {Map<string, {left: Spot, right: Spot} | null>} */
  let spots = new Map();
  /** @type {Map<string, {kind: Kind, name: string, sub: Element, letters: number}>} */
  let labels = new Map();
  let moreClients = s("text");
  let wires = s("g");
  /** @type {Set<string>} */
  const wired = new Set();
  /** @type {Partial<Record<Kind, string[]>>} */
  const shown = {};
  /** @type {{legs: Leg[], bad: boolean, begun: number}[]} */
  let dots = [];
  let running = false;

  const observer = new ResizeObserver(([entry]) => {
    size = { width: entry.contentRect.width, height: entry.contentRect.height };
    const scale = devicePixelRatio || 1;
    canvas.width = Math.round(size.width * scale);
    canvas.height = Math.round(size.height * scale);
    drawn = "";
    build();
  });
  observer.observe(stage);
  const unwatch = onchange(() => (dots.length ? undefined : frame(performance.now())));

  /**
   * Chooses the items of the picture: those in it stay, so that nothing jumps about; busy ones take the free places.
   *
   * @template {Item} One
   * @param {Kind} kind
   * @param {One[]} items
   */
  function choose(kind, items) {
    const most = ROWS[kind];
    const before = new Set(shown[kind] ?? []);
    const ranked = items.slice(0, 200).sort((a, b) => Number(before.has(b.name)) - Number(before.has(a.name)));
    const chosen = ranked.slice(0, items.length > most ? most - 1 : most);
    chosen.sort((a, b) => (a.name < b.name ? -1 : 1));
    shown[kind] = chosen.map((item) => item.name);
    return chosen;
  }

  function build() {
    const { width } = size;
    if (!width) return;
    const columns = {
      clients: choose("clients", data.clients),
      types: choose("types", data.types),
      servers: choose("servers", data.servers),
    };
    const totals = { clients: data.clientCount, types: data.types.length, servers: data.servers.length };
    const key = JSON.stringify([
      width,
      totals.clients > columns.clients.length,
      totals.types,
      totals.servers,
      columns.clients.map((c) => c.name),
      columns.types.map((t) => [t.name, t.up]),
      columns.servers.map((v) => [v.name, v.up]),
    ]);
    if (key !== drawn) {
      drawn = key;
      draw(columns, totals);
    }
    for (const { kind, name, sub, letters } of labels.values()) setText(sub, short(subtitle(kind, name), letters));
    setText(moreClients, `and ${count(Math.max(0, totals.clients - columns.clients.length))} more`);
  }

  /**
   * @param {Record<Kind, Item[]>} columns
   * @param {Record<Kind, number>} totals
   */
  function draw(columns, totals) {
    const { width } = size;
    const pad = width < 560 ? 10 : 20;
    const box = Math.min(176, (width - pad * 2) / 3 - (width < 560 ? 14 : 50));
    const xs = { clients: pad, types: (width - box) / 2, servers: width - pad - box };
    const rows = Math.max(
      5,
      ...KINDS.map((kind) => columns[kind].length + (totals[kind] > columns[kind].length ? 1 : 0)),
    );
    const height = TOP + rows * ROW + 18;
    stage.style.height = `${height}px`;
    const letters = Math.max(6, Math.floor((box - 20) / 8.2));
    spots = new Map();
    labels = new Map();
    moreClients = s("text");
    wires = s("g");
    const nodes = s("g");
    for (const kind of KINDS) {
      const list = columns[kind];
      const over = totals[kind] > list.length;
      const start = TOP + ((rows - list.length - (over ? 1 : 0)) * ROW) / 2;
      nodes.append(
        s("text.heading", { x: xs[kind], y: 34 }, box < 110 && kind === "servers" ? "SERVERS" : TITLES[kind]),
      );
      list.forEach((item, row) => {
        const y = start + row * ROW;
        const key = `${kind}:${item.name}`;
        const sub = s("text.sub", { x: 12, y: 28 });
        const down = "up" in item && !item.up;
        nodes.append(
          s(
            "g",
            { class: `${kind.slice(0, -1)} ${down ? "down" : ""}`, transform: `translate(${xs[kind]} ${y})` },
            s("title", null, item.name),
            s("rect.box", { x: 0.5, y: 0.5, width: box - 1, height: BOX + 2, rx: kind === "clients" ? 18 : 8 }),
            s("text.name", { x: 12, y: 16 }, short(item.name, letters)),
            sub,
          ),
        );
        labels.set(key, { kind, name: item.name, sub, letters: Math.floor((box - 16) / 6.2) });
        spots.set(key, { left: { x: xs[kind], y: y + 18 }, right: { x: xs[kind] + box, y: y + 18 } });
      });
      const y = start + list.length * ROW;
      if (over) {
        const more = kind === "clients" ? moreClients : s("text", null, `and ${totals[kind] - list.length} more`);
        for (const [name, value] of Object.entries({ class: "more", x: xs[kind] + 12, y: y + 22 }))
          more.setAttribute(name, String(value));
        nodes.append(more);
      }
      const other = { x: xs[kind] + 12, y: y + 18 };
      spots.set(`${kind}:`, over ? { left: { ...other, x: xs[kind] }, right: { ...other, x: xs[kind] + box } } : null);
      if (!list.length && !over)
        nodes.append(
          s("text.more", { x: xs[kind] + 4, y: TOP + (rows * ROW) / 2 }, box < 110 ? "none" : `no ${kind} yet`),
        );
    }
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    for (const key of wired) if (!wire(key)) wired.delete(key);
    replace(svg, wires, nodes);
    dots = [];
  }

  /**
   * Draws a line where messages went; returns false if an end of it has left the picture.
   *
   * @param {string} key
   */
  function wire(key) {
    const [from, to] = key.split("\n");
    const [a, b] = [spots.get(from)?.right, spots.get(to)?.left];
    if (!a || !b) return false;
    const middle = (a.x + b.x) / 2;
    wires.append(s("path.wire", { d: `M${a.x} ${a.y}C${middle} ${a.y} ${middle} ${b.y} ${b.x} ${b.y}` }));
    return true;
  }

  /**
   * @param {string} from
   * @param {string} to
   */
  function wireUp(from, to) {
    const key = `${from}\n${to}`;
    if (!wired.has(key) && wire(key)) wired.add(key);
  }

  /**
   * @param {Kind} kind
   * @param {string} name
   */
  function subtitle(kind, name) {
    if (kind === "clients") {
      const { sessions = 0, rate: perSecond } = data.clients.find((item) => item.name === name) ?? {};
      if (sessions > 1) return `${sessions} sessions`;
      return perSecond ? `${rate(perSecond)}/s` : "connected";
    }
    if (kind === "types") {
      const item = data.types.find((one) => one.name === name);
      return item?.up === false ? "no handler" : `${rate(item?.rate ?? 0)}/s · ${millis(item?.ms)}`;
    }
    const item = data.servers.find((one) => one.name === name);
    if (item?.waiting) return `${count(item.waiting)} waiting`;
    if (item?.up === false) return "down";
    if (item?.link === "up") return "linked";
    return item?.link === "classic" ? "classic" : "idle";
  }

  // -- dots -----------------------------------------------------------------------------------------------------------

  /**
   * Returns the key of an item's spot; an item that is not in the picture is among "and more".
   *
   * @param {Kind} kind
   * @param {string} name
   */
  const keyOf = (kind, name) => (spots.get(`${kind}:${name}`) ? `${kind}:${name}` : `${kind}:`);

  /**
   * Starts the movements of the last second, spread over the next one.
   *
   * @param {Movement[]} movements
   */
  function move(movements) {
    if (still() || document.hidden || !spots.size) return;
    const begun = performance.now();
    const some =
      movements.length > PER_SECOND
        ? movements.filter((_, at) => at % Math.ceil(movements.length / PER_SECOND) === 0)
        : movements;
    some.forEach((movement, index) => {
      const legs = legsOf(movement);
      if (legs.length && dots.length < MOST_DOTS)
        dots.push({ legs, bad: movement.good === false, begun: begun + (index * 960) / some.length });
    });
    if (dots.length && !running) {
      running = true;
      requestAnimationFrame(frame);
    }
  }

  /** @param {Movement} movement */
  function legsOf({ from, types, to }) {
    /** @type {(End | null | undefined)[]} */
    const ends = [from, ...types.map((name) => ({ kind: /** @type {Kind} */ ("types"), name })), to];
    const route = ends.flatMap((end) => {
      const key = end ? keyOf(end.kind, end.name) : "";
      const spot = spots.get(key);
      return end && spot ? [{ kind: end.kind, key, spot }] : [];
    });
    /** @type {Leg[]} */
    const legs = [];
    for (let at = 1; at < route.length; at += 1) {
      const [from, to] = [route[at - 1], route[at]];
      const [a, b] = [from.spot, to.spot];
      const forward = KINDS.indexOf(from.kind) < KINDS.indexOf(to.kind);
      if (from.kind === to.kind) continue;
      if (forward) wireUp(from.key, to.key);
      else wireUp(to.key, from.key);
      legs.push({ a: forward ? a.right : a.left, b: forward ? b.left : b.right });
    }
    return legs;
  }

  /** @param {number} now */
  function frame(now) {
    const scale = devicePixelRatio || 1;
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.clearRect(0, 0, size.width, size.height);
    if (!stage.isConnected) {
      running = false;
      return;
    }
    const good = colour("accent");
    const bad = colour("bad");
    dots = dots.filter((dot) => now - dot.begun < dot.legs.length * LEG_MS);
    for (const dot of dots) {
      const age = now - dot.begun;
      if (age < 0) continue;
      const { a, b } = dot.legs[Math.floor(age / LEG_MS)];
      context.fillStyle = dot.bad ? bad : good;
      for (let tail = 0; tail < 4; tail += 1) {
        const part = Math.max(0, (age % LEG_MS) / LEG_MS - tail * 0.035);
        const t = part * part * (3 - 2 * part);
        const middle = (a.x + b.x) / 2;
        const u = 1 - t;
        context.globalAlpha = [1, 0.45, 0.22, 0.1][tail];
        context.beginPath();
        context.arc(
          u ** 3 * a.x + 3 * u * u * t * middle + 3 * u * t * t * middle + t ** 3 * b.x,
          u ** 3 * a.y + 3 * u * u * t * a.y + 3 * u * t * t * b.y + t ** 3 * b.y,
          3.6 - tail * 0.5,
          0,
          7,
        );
        context.fill();
      }
    }
    context.globalAlpha = 1;
    running = dots.length > 0;
    if (running) requestAnimationFrame(frame);
  }

  return {
    element: stage,
    /** @param {Data & {movements: Movement[]}} next */
    show(next) {
      data = next;
      svg.setAttribute(
        "aria-label",
        `${count(data.clientCount)} clients, ${data.types.length} types, ${data.servers.length} other servers`,
      );
      build();
      move(next.movements);
    },
    stop() {
      observer.disconnect();
      unwatch();
      dots = [];
    },
  };
}
