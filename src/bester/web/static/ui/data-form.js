/**
 * A form for the data of a type: a field for each simple member that its schema names, and an editor of the JSON, which
 * is what is sent. A change of one shows in the other.
 */

import { field, h, replace } from "./dom.js";
import { example, isObject, kind, resolved } from "./schema.js";

/** @import { Schema } from "./schema.js" */

const MOST_FIELDS = 40;

/** @typedef {{name: string, control: HTMLInputElement, read: (text: string) => any, write: (value: any) => string}} Bound */

export class DataForm {
  /**
   * @param {any} value to begin with, where there is no schema
   * @param {string} [hint] below the editor
   */
  constructor(value, hint = "Any JSON value. The server carries it as it is; only handlers look inside.") {
    this.wrong = h("p.wrong", { role: "alert" });
    const editor = field("Data", { tag: "textarea", name: "data", spellcheck: "false" }, hint);
    /** @type {HTMLInputElement} */
    this.text = /** @type {any} */ (editor.querySelector("textarea"));
    this.text.addEventListener("input", () => this.#typed());
    this.members = h("div.members");
    this.element = h("div.stack", null, this.members, editor, this.wrong);
    /** @type {Bound[]} */
    this.bound = [];
    this.set(value);
  }

  /**
   * Shows the fields of a schema; null has none.
   *
   * @param {Schema} schema
   */
  describe(schema) {
    const known = resolved(schema, schema);
    const properties = isObject(known) && isObject(known.properties) ? Object.entries(known.properties) : [];
    const needed = Array.isArray(known?.required) ? known.required : [];
    this.bound = [];
    replace(
      this.members,
      properties.slice(0, MOST_FIELDS).map(([name, inner]) => this.#member(schema, name, inner, needed.includes(name))),
    );
    this.members.hidden = this.bound.length === 0;
    this.#show(this.read());
  }

  /**
   * Replaces the data.
   *
   * @param {any} value
   */
  set(value) {
    this.text.value = JSON.stringify(value, null, 2);
    this.#typed();
  }

  /** Returns the data; undefined where it is no JSON, which is then told. */
  read() {
    try {
      const value = JSON.parse(this.text.value);
      this.wrong.textContent = "";
      this.text.setAttribute("aria-invalid", "false");
      return value;
    } catch (error) {
      this.wrong.textContent = `Not JSON: ${error.message}`;
      this.text.setAttribute("aria-invalid", "true");
      return undefined;
    }
  }

  #typed() {
    this.#show(this.read());
  }

  /** @param {any} value */
  #show(value) {
    for (const { name, control, write } of this.bound) {
      control.disabled = !isObject(value);
      const shown = isObject(value) && Object.hasOwn(value, name) ? write(value[name]) : "";
      if (control.value !== shown && control !== document.activeElement) control.value = shown;
    }
  }

  /** @param {Bound} bound */
  #changed({ name, control, read }) {
    const value = this.read();
    if (!isObject(value)) return;
    if (control.value === "") delete value[name];
    else value[name] = read(control.value);
    this.text.value = JSON.stringify(value, null, 2);
  }

  /**
   * @param {Schema} root
   * @param {string} name
   * @param {Schema} schema
   * @param {boolean} needed
   */
  #member(root, name, schema, needed) {
    const simple = simpleOf(root, schema);
    if (!simple) return null;
    const { options, type } = simple;
    const hint = [needed ? "" : "Optional.", resolved(root, schema)?.description ?? ""].filter(Boolean).join(" ");
    const made = field(
      name,
      options
        ? { tag: "select", name: `member-${name}`, options: [["", "–"], ...options.map(asOption)] }
        : { name: `member-${name}`, autocomplete: "off", placeholder: kind(root, schema), inputmode: inputMode(type) },
      hint || null,
    );
    const control = /** @type {HTMLInputElement} */ (made.querySelector("input, select"));
    /** @type {Bound} */
    const bound = options
      ? { name, control, read: JSON.parse, write: (value) => JSON.stringify(value) }
      : { name, control, read: (text) => readAs(type, text), write: (value) => shownAs(type, value) };
    control.addEventListener("input", () => this.#changed(bound));
    this.bound.push(bound);
    return made;
  }
}

/**
 * Returns a first value for a type: its first sample, else one made from its schema.
 *
 * @param {{request: Schema, samples: any[]}} described
 */
export function firstValue({ request, samples }) {
  if (samples.length) return samples[0];
  return request === null || request === undefined ? { text: "hello" } : example(request);
}

/**
 * Makes the buttons that put samples into a form.
 *
 * @param {any[]} samples
 * @param {(sample: any) => unknown} use
 */
export function sampleButtons(samples, use) {
  return h(
    "div.buttons",
    { role: "group", "aria-label": "Samples" },
    samples.map((sample, at) =>
      h(
        "button.small",
        { type: "button", title: JSON.stringify(sample).slice(0, 300), onclick: () => use(sample) },
        samples.length > 1 ? `Sample ${at + 1}` : "Sample",
      ),
    ),
  );
}

/** @param {any} value */
const asOption = (value) => /** @type {[string, string]} */ ([JSON.stringify(value), String(value)]);

/**
 * Returns how a member may be edited in one control: its options, or the type of its text; null where it may not.
 *
 * @param {Schema} root
 * @param {Schema} schema
 * @returns {{type: string, options?: any[]} | null}
 */
function simpleOf(root, schema) {
  const known = resolved(root, schema);
  if (!isObject(known)) return null;
  if (Array.isArray(known.enum) && known.enum.length <= 100) return { type: "enum", options: known.enum };
  if (known.type === "boolean") return { type: "boolean", options: [true, false] };
  if (["string", "integer", "number"].includes(known.type)) return { type: known.type };
  const several = (known.anyOf ?? known.oneOf)?.filter?.((/** @type {any} */ one) => one?.type !== "null");
  return Array.isArray(several) && several.length === 1 ? simpleOf(root, several[0]) : null;
}

/** @param {string} type */
const inputMode = (type) => (type === "integer" ? "numeric" : type === "number" ? "decimal" : null);

/**
 * @param {string} type
 * @param {string} text
 */
function readAs(type, text) {
  const number = Number(text);
  return type === "string" || text.trim() === "" || !Number.isFinite(number) ? text : number;
}

/**
 * @param {string} type
 * @param {any} value
 */
const shownAs = (type, value) => (type === "string" && typeof value === "string" ? value : JSON.stringify(value) ?? "");
