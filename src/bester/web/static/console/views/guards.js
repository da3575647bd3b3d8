/** What guards decide: their verdicts, counted and per second. */

import { badge } from "../../ui/dom.js";
import { count, rate } from "../../ui/format.js";

/** @import { Child } from "../../ui/dom.js" */
/** @typedef {{[verdict: string]: {count: number, rate: number | null}}} Verdicts the rate is null at the first look */

const ORDER = ["accept", "reject", "drop", "hold", "failure"];
/** @type {Record<string, string>} */
const WORDS = { accept: "accepted", reject: "rejected", drop: "dropped", hold: "held", failure: "without a verdict" };

/** Compares the counts of one look with those of the look before. */
export class VerdictRates {
  /** @type {Map<string, {[verdict: string]: number}>} */
  #last = new Map();
  #at = 0;

  /**
   * Returns the verdicts of each guard by its type.
   *
   * @param {any[]} rows of `listHandlers`
   * @returns {{[type: string]: Verdicts}}
   */
  take(rows) {
    const now = performance.now();
    const seconds = (now - this.#at) / 1000;
    const before = this.#last;
    const isFirst = this.#at === 0;
    this.#at = now;
    this.#last = new Map(rows.filter((row) => row.verdicts).map((row) => [row.type, row.verdicts]));
    return Object.fromEntries(
      [...this.#last].map(([type, counts]) => [
        type,
        Object.fromEntries(
          ORDER.filter((verdict) => counts[verdict]).map((verdict) => {
            const more = counts[verdict] - (before.get(type)?.[verdict] ?? 0);
            return [verdict, { count: counts[verdict], rate: isFirst ? null : Math.max(0, more) / seconds }];
          }),
        ),
      ]),
    );
  }
}

/**
 * Says in words what a guard decided; a lack of verdicts stands out.
 *
 * @param {Verdicts} verdicts
 * @returns {Child}
 */
export function shownVerdicts(verdicts) {
  return Object.entries(verdicts).map(([verdict, { count: number, rate: speed }], at) => {
    const text = `${count(number)} ${WORDS[verdict]}${speed ? ` (${rate(speed)}/s)` : ""}`;
    return [at > 0 && ", ", verdict === "failure" ? badge(text, "bad") : text];
  });
}
