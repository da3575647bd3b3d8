/** Draws a small line plot on a canvas: the last ten minutes, the newest at the right, a value under the pointer. */

import { h } from "../ui/dom.js";
import { clock } from "../ui/format.js";
import { colour } from "../ui/theme.js";

/** @import { Point } from "./model.js" */

const SPAN_S = 600;

/**
 * @param {object} options
 * @param {string} options.title
 * @param {{key: "messages" | "deliveries" | "errors" | "mean" | "p95", label: string, colour: string}[]} options.lines
 *   `colour` is a custom property
 * @param {(value: number | null | undefined) => string} options.format
 * @param {number} [options.least] the smallest top of the scale
 */
export function plot({ title, lines, format, least = 1 }) {
  const canvas = h("canvas", { role: "img", "aria-label": `${title}: no numbers yet` });
  const now = h("span");
  const element = h("figure.card.plot", null, h("figcaption", null, h("b", null, title), now), canvas);
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  /** @type {Point[]} */
  let points = [];
  /** @type {number | null} */
  let pointer = null;
  let size = { width: 0, height: 0 };
  let asked = false;

  const ask = () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => {
      asked = false;
      if (element.isConnected) draw();
    });
  };

  const observer = new ResizeObserver(([entry]) => {
    size = { width: entry.contentRect.width, height: entry.contentRect.height };
    const scale = devicePixelRatio || 1;
    canvas.width = Math.round(size.width * scale);
    canvas.height = Math.round(size.height * scale);
    ask();
  });
  observer.observe(canvas);
  canvas.addEventListener("pointermove", (event) => {
    pointer = event.offsetX;
    ask();
  });
  canvas.addEventListener("pointerleave", () => {
    pointer = null;
    ask();
  });

  function draw() {
    const { width, height } = size;
    const scale = devicePixelRatio || 1;
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.clearRect(0, 0, width, height);
    const bottom = height - 16;
    const top = 14;
    const end = points.at(-1)?.time ?? 0;
    let most = least;
    for (const point of points) for (const { key } of lines) most = Math.max(most, point[key] ?? 0);
    most = nice(most);
    const x = (/** @type {number} */ time) => width - ((end - time) / SPAN_S) * width;
    const y = (/** @type {number} */ value) => bottom - (value / most) * (bottom - top);

    context.font = `11px ${getComputedStyle(document.body).fontFamily}`;
    context.strokeStyle = colour("line");
    context.fillStyle = colour("muted");
    context.lineWidth = 1;
    for (const part of [0, 0.5, 1]) {
      const at = Math.round(y(most * part)) + 0.5;
      context.beginPath();
      context.moveTo(0, at);
      context.lineTo(width, at);
      context.stroke();
    }
    context.textAlign = "left";
    context.fillText(format(most), 2, y(most) - 3);
    context.fillText("10 min ago", 2, height - 3);
    context.textAlign = "right";
    context.fillText("now", width - 2, height - 3);

    lines.forEach((line, index) => {
      const known = points.flatMap(({ time, [line.key]: value }) =>
        typeof value === "number" ? [{ time, value }] : [],
      );
      if (!known.length) return;
      context.beginPath();
      for (const { time, value } of known) context.lineTo(x(time), y(value));
      context.strokeStyle = colour(line.colour);
      context.lineWidth = 1.8;
      context.lineJoin = "round";
      context.setLineDash(index ? [4, 3] : []);
      context.stroke();
      context.setLineDash([]);
      if (index) return;
      context.lineTo(x(known[known.length - 1].time), bottom);
      context.lineTo(x(known[0].time), bottom);
      context.globalAlpha = 0.1;
      context.fillStyle = colour(line.colour);
      context.fill();
      context.globalAlpha = 1;
    });

    if (pointer === null || !points.length) return;
    const time = end - ((width - pointer) / width) * SPAN_S;
    const nearest = points.reduce((best, point) =>
      Math.abs(point.time - time) < Math.abs(best.time - time) ? point : best,
    );
    const at = x(nearest.time);
    context.strokeStyle = colour("edge");
    context.beginPath();
    context.moveTo(at, top);
    context.lineTo(at, bottom);
    context.stroke();
    const text = `${clock(nearest.time)}  ${lines.map(({ key, label }) => `${label} ${format(nearest[key])}`).join("  ")}`;
    const w = context.measureText(text).width + 14;
    const left = Math.max(0, Math.min(width - w, at - w / 2));
    context.fillStyle = colour("ink");
    context.beginPath();
    context.roundRect(left, top - 2, w, 20, 6);
    context.fill();
    context.fillStyle = colour("surface");
    context.textAlign = "left";
    context.fillText(text, left + 7, top + 12);
  }

  return {
    element,
    /** @param {Point[]} next */
    show(next) {
      points = next;
      const last = points.at(-1);
      const text = lines.map(({ key, label }) => `${label} ${format(last?.[key])}`).join(" · ");
      now.textContent = text;
      canvas.setAttribute("aria-label", `${title} over the last ten minutes; now ${text}`);
      ask();
    },
    redraw: ask,
    stop: () => observer.disconnect(),
  };
}

/**
 * Returns the next number of the series 1, 2, 5, 10, 20.
 *
 * @param {number} value
 */
function nice(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  for (const factor of [1, 2, 5, 10]) if (factor * power >= value * 0.999) return factor * power;
  return value;
}
