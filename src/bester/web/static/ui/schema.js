/** Shows JSON Schemas to people, and makes a value to begin with. What a schema refers to is looked up within it. */

import { h, table } from "./dom.js";

/** @typedef {any} Schema */
/** @typedef {{place: string, kind: string, required: boolean, about: string}} Field */

const MOST_FIELDS = 200;
const DEEPEST = 6;
const LONGEST = 160;
const BOUNDS = /** @type {[string, string][]} */ ([
  ["minimum", "≥ "],
  ["exclusiveMinimum", "> "],
  ["maximum", "≤ "],
  ["exclusiveMaximum", "< "],
  ["multipleOf", "a multiple of "],
  ["minLength", "characters ≥ "],
  ["maxLength", "characters ≤ "],
  ["minItems", "items ≥ "],
  ["maxItems", "items ≤ "],
  ["pattern", "matches "],
]);

/** @param {any} value */
export const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);

/** @param {any} value */
const list = (value) => (Array.isArray(value) ? value : []);

/** @param {string} text */
const cut = (text) => (text.length > LONGEST ? `${text.slice(0, LONGEST)}…` : text);

/**
 * Returns a schema with what it refers to in its place.
 *
 * @param {Schema} root
 * @param {Schema} schema
 * @returns {Schema}
 */
export function resolved(root, schema) {
  for (let turn = 0; turn < 32 && isObject(schema) && typeof schema.$ref === "string"; turn += 1) {
    const { $ref, ...beside } = schema;
    let found = $ref.startsWith("#") ? root : undefined;
    for (const part of decoded($ref.slice(1)).split("/").slice(1)) {
      const key = part.replaceAll("~1", "/").replaceAll("~0", "~");
      found = found !== null && typeof found === "object" && Object.hasOwn(found, key) ? found[key] : undefined;
    }
    schema = isObject(found) ? { ...found, ...beside } : found;
  }
  return schema;
}

/** @param {string} text */
function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** @param {Schema} schema */
const branches = (schema) => [...list(schema.anyOf), ...list(schema.oneOf), ...list(schema.allOf)];

/**
 * Returns the fields of a schema, an object's before those within.
 *
 * @param {Schema} schema
 * @returns {Field[]}
 */
export function fields(schema) {
  /** @type {Field[]} */
  const found = [];
  walk(found, schema, schema, "", true, DEEPEST);
  return found;
}

/**
 * @param {Field[]} found
 * @param {Schema} root
 * @param {Schema} schema
 * @param {string} place
 * @param {boolean} required
 * @param {number} depth
 */
function walk(found, root, schema, place, required, depth) {
  if (found.length >= MOST_FIELDS) return;
  const known = resolved(root, schema);
  if (!isObject(known)) {
    found.push({ place, kind: kind(root, known), required, about: "" });
    return;
  }
  if (place || !isObject(known.properties)) found.push({ place, kind: kind(root, known), required, about: about(known) });
  if (depth > 0) inside(found, root, known, place, depth);
}

/**
 * Adds the fields within an object, or within the items of a list.
 *
 * @param {Field[]} found
 * @param {Schema} root
 * @param {Schema} schema
 * @param {string} place
 * @param {number} depth
 */
function inside(found, root, schema, place, depth) {
  const required = list(schema.required);
  for (const [name, inner] of Object.entries(isObject(schema.properties) ? schema.properties : {})) {
    walk(found, root, inner, place ? `${place}.${name}` : name, required.includes(name), depth - 1);
  }
  const within = [
    [schema.items, `${place}[]`],
    [schema.additionalProperties, `${place}.*`],
    ...branches(schema).map((branch) => [branch, place]),
  ];
  for (const [inner, where] of within) {
    const known = resolved(root, inner);
    if (isObject(known) && isObject(known.properties) && depth > 1) inside(found, root, known, where, depth - 1);
  }
}

/**
 * Returns what a schema allows, in a few words.
 *
 * @param {Schema} root
 * @param {Schema} schema
 * @returns {string}
 */
export function kind(root, schema, depth = DEEPEST) {
  const known = resolved(root, schema);
  if (!isObject(known)) return known === false ? "nothing" : "anything";
  if ("const" in known) return cut(JSON.stringify(known.const));
  if (Array.isArray(known.enum)) return cut(known.enum.map((/** @type {any} */ one) => JSON.stringify(one)).join(" | "));
  const several = known.anyOf ?? known.oneOf;
  if (Array.isArray(several) && depth > 0) {
    return cut([...new Set(several.map((one) => kind(root, one, depth - 1)))].join(" | "));
  }
  if (Array.isArray(known.allOf) && depth > 0 && !known.type) {
    return cut([...new Set(known.allOf.map((/** @type {any} */ one) => kind(root, one, depth - 1)))].join(" & "));
  }
  const guessed = known.properties ? "object" : known.items ? "array" : "anything";
  let text = Array.isArray(known.type) ? known.type.join(" | ") : String(known.type ?? guessed);
  if (text === "array" && depth > 0 && isObject(known.items)) text = `array of ${kind(root, known.items, depth - 1)}`;
  if (text === "object" && typeof known.title === "string") text = `object ${known.title}`;
  if (typeof known.format === "string") text += ` (${known.format})`;
  const bounds = BOUNDS.filter(([key]) => key in known).map(([key, words]) => words + String(known[key]));
  return cut([text, ...bounds].join(", "));
}

/** @param {Schema} schema */
function about(schema) {
  const words = typeof schema.description === "string" ? schema.description : "";
  const first = "default" in schema ? `Default: ${cut(JSON.stringify(schema.default))}` : "";
  return [words, first].filter(Boolean).join(" ").slice(0, 500);
}

/**
 * Returns a value with the members that a schema requires; it fits most schemas.
 *
 * @param {Schema} root
 * @param {Schema} [schema]
 * @returns {any}
 */
export function example(root, schema = root, depth = DEEPEST) {
  const known = resolved(root, schema);
  if (!isObject(known)) return null;
  if ("const" in known) return known.const;
  if ("default" in known) return known.default;
  const first = list(known.examples)[0] ?? list(known.enum)[0];
  if (first !== undefined) return first;
  const [branch] = branches(known);
  if (branch !== undefined && !known.properties && depth > 0) return example(root, branch, depth - 1);
  const type = Array.isArray(known.type) ? known.type[0] : known.type;
  if ((type === "object" || known.properties) && depth > 0) {
    const properties = isObject(known.properties) ? known.properties : {};
    const names = list(known.required).filter((name) => Object.hasOwn(properties, name));
    return Object.fromEntries(names.map((name) => [name, example(root, properties[name], depth - 1)]));
  }
  if (type === "array") {
    const length = depth > 0 ? Math.min(Number(known.minItems) || 0, 10) : 0;
    return Array.from({ length }, () => example(root, known.items, depth - 1));
  }
  if (type === "string") return "";
  if (type === "boolean") return false;
  if (type === "integer" || type === "number") return known.minimum ?? 0;
  return type === "object" ? {} : null;
}

/**
 * Makes the readable form of a schema: its fields, and the schema itself to unfold.
 *
 * @param {string} caption
 * @param {Schema} schema
 */
export function shownSchema(caption, schema) {
  const rows = fields(schema);
  return h(
    "div.stack",
    null,
    table({
      caption,
      rows,
      columns: [
        { label: "Field", cell: (row) => h("span.mono", null, row.place || "the value") },
        { label: "Kind", cell: (row) => row.kind },
        { label: "Needed", cell: (row) => (row.required ? "yes" : h("span.muted", null, "no")) },
        { label: "Meaning", cell: (row) => row.about || h("span.muted", null, "–") },
      ],
    }),
    rows.length >= MOST_FIELDS && h("p.muted", null, "These are the first fields; the schema has them all."),
    h(
      "details",
      null,
      h("summary", null, "JSON Schema"),
      h("pre", { tabindex: 0, role: "region", "aria-label": `${caption}: JSON Schema` }, JSON.stringify(schema, null, 2)),
    ),
  );
}
