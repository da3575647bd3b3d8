/**
 * Builds the page: everything from a server goes in as text, never as HTML.
 */

const SVG = "http://www.w3.org/2000/svg";

/** @typedef {Node | string | number | boolean | null | undefined} Leaf null, undefined and false are left out */
/** @typedef {Leaf | Child[]} Child */

/**
 * An element's attributes: `on...` are listeners, `dataset` is an object, what is null or false is left out.
 *
 * @typedef {object} Listeners
 * @property {(event: MouseEvent) => unknown} [onclick]
 * @property {(event: SubmitEvent) => unknown} [onsubmit]
 * @property {(event: KeyboardEvent) => unknown} [onkeydown]
 * @property {(event: Event) => unknown} [oninput]
 * @property {(event: Event) => unknown} [onscroll]
 *
 * @typedef {Listeners & {[name: string]: any}} Props
 */

/**
 * The type of the element of `h("button.quiet")`.
 *
 * @template {string} What
 * @typedef {What extends keyof HTMLElementTagNameMap ? HTMLElementTagNameMap[What]
 *   : What extends `${infer Tag}.${string}` ? Tag extends keyof HTMLElementTagNameMap ? HTMLElementTagNameMap[Tag]
 *   : HTMLElement : HTMLElement} Made
 */

/**
 * Makes an element: `h("button.quiet", {onclick, "aria-label": "Close"}, "×")`.
 *
 * @template {string} What
 * @param {What} what a tag with classes
 * @param {Props | null} [props]
 * @param {...Child} children
 * @returns {Made<What>}
 */
export function h(what, props, ...children) {
  const [tag, ...classes] = what.split(".");
  return /** @type {Made<What>} */ (fill(document.createElement(tag), classes, props, children));
}

/**
 * Makes an SVG element, as `h` does an HTML element.
 *
 * @param {string} what
 * @param {Props | null} [props]
 * @param {...Child} children
 * @returns {SVGGraphicsElement}
 */
export function s(what, props, ...children) {
  const [tag, ...classes] = what.split(".");
  return /** @type {SVGGraphicsElement} */ (fill(document.createElementNS(SVG, tag), classes, props, children));
}

/**
 * @param {any} element
 * @param {string[]} classes
 * @param {Props | null | undefined} props
 * @param {Child[]} children
 */
function fill(element, classes, props, children) {
  if (classes.length) element.classList.add(...classes);
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "dataset") Object.assign(element.dataset, value);
    else if (name === "value" || name === "checked" || name === "disabled") element[name] = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  append(element, children);
  return element;
}

/**
 * @param {ParentNode} element
 * @param {Child[]} children
 */
function append(element, children) {
  for (const child of children) {
    if (Array.isArray(child)) append(element, child);
    else if (child !== null && child !== undefined && typeof child !== "boolean") {
      element.append(child instanceof Node ? child : String(child));
    }
  }
}

/** @param {string} id of an element that the page has */
export function byId(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no element ${id}`);
  return found;
}

/**
 * Replaces the content of an element; a focused element inside keeps the focus, by its `data-focus`.
 *
 * @param {Element} element
 * @param {...Child} children
 */
export function replace(element, ...children) {
  const active = /** @type {HTMLElement | null} */ (document.activeElement);
  const focused = element.contains(active) ? active?.dataset.focus : undefined;
  const nodes = document.createDocumentFragment();
  append(nodes, children);
  element.replaceChildren(nodes);
  if (!focused) return;
  const again = /** @type {HTMLElement | null} */ (element.querySelector(`[data-focus="${CSS.escape(focused)}"]`));
  again?.focus({ preventScroll: true });
}

/**
 * Sets a text only where it differs, so that nothing is laid out in vain.
 *
 * @param {Element} element
 * @param {string} text
 */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// -- toasts and dialogs ---------------------------------------------------------------------------------------------

/**
 * Shows for some seconds how something went, and announces it to screen readers.
 *
 * @param {string} text
 * @param {"good" | "bad"} [kind]
 */
export function toast(text, kind = "good") {
  const region = byId("toasts");
  const close = h("button.quiet", { type: "button", "aria-label": "Dismiss" }, "×");
  const note = h(`div.toast.${kind}`, null, h("span", null, text), close);
  close.addEventListener("click", () => note.remove());
  region.append(note);
  while (region.children.length > 4) region.firstElementChild?.remove();
  setTimeout(() => note.remove(), kind === "bad" ? 10_000 : 5_000);
}

/**
 * Asks in a dialog.
 *
 * @param {object} options
 * @param {string} options.title
 * @param {Child} [options.body] a text, or nodes
 * @param {string} options.action the button's label
 * @param {boolean} [options.danger]
 * @param {(form: HTMLFormElement) => Promise<unknown>} [options.run] runs before the dialog closes; its error is shown
 * @returns {Promise<boolean>} whether it was done
 */
export function ask({ title, body, action, danger = false, run }) {
  return new Promise((resolve) => {
    const wrong = h("p.wrong", { role: "alert" });
    const go = h(danger ? "button.danger" : "button.primary", { type: "submit" }, action);
    const cancel = h("button", { type: "button" }, action === "Close" ? "Back" : "Cancel");
    const form = h(
      "form",
      { method: "dialog" },
      h("h2", { id: "dialog-title" }, title),
      typeof body === "string" ? h("p", null, body) : body,
      wrong,
      h("div.buttons", null, action === "Close" ? null : cancel, go),
    );
    const dialog = h("dialog", { "aria-labelledby": "dialog-title" }, form);
    let done = false;
    cancel.addEventListener("click", () => dialog.close());
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      if (go.disabled) return;
      go.disabled = true;
      wrong.textContent = "";
      try {
        await run?.(form);
        done = true;
        dialog.close();
      } catch (error) {
        wrong.textContent = error.message;
        go.disabled = false;
      }
    });
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(done);
    });
    document.body.append(dialog);
    dialog.showModal();
    const first = /** @type {HTMLElement | null} */ (form.querySelector("input, select, textarea"));
    (first ?? (danger ? cancel : go)).focus();
  });
}

let fields = 0;

/**
 * Makes a labelled control: `field("Username", {name: "username", required: true})`.
 *
 * @param {string} label
 * @param {Props & {name: string, tag?: "input" | "select" | "textarea", options?: (string | [string, string])[]}} props
 * @param {string | null} [hint]
 */
export function field(label, props, hint = null) {
  const { tag = "input", options, ...rest } = props;
  const id = `field-${rest.name}-${(fields += 1)}`;
  const control = h(tag, { id, ...rest, "aria-describedby": hint ? `${id}-hint` : null });
  for (const option of options ?? []) {
    const [value, text] = Array.isArray(option) ? option : [option, option];
    control.append(h("option", { value }, text));
  }
  if (rest.value !== undefined) control.value = rest.value;
  return h("div.field", null, h("label", { for: id }, label), control, hint && h("p.hint", { id: `${id}-hint` }, hint));
}

/**
 * Makes a check box with its label.
 *
 * @param {string} label
 * @param {Props} [props]
 */
export function check(label, props = {}) {
  return h("label.check", null, h("input", { type: "checkbox", ...props }), h("span", null, label));
}

/**
 * Returns a control of a form, which may be a select or a textarea, too.
 *
 * @param {HTMLFormElement} form
 * @param {string} name
 */
export function control(form, name) {
  return /** @type {HTMLInputElement} */ (form.elements.namedItem(name));
}

// -- tables ---------------------------------------------------------------------------------------------------------

/**
 * @template Row
 * @param {object} options
 * @param {string} options.caption for screen readers
 * @param {{label: string, cell: (row: Row) => Child, kind?: string}[]} options.columns `kind` is a class: `number`,
 *   `once`, `actions`
 * @param {Row[]} options.rows never more than a page of them
 */
export function table({ caption, columns, rows }) {
  const head = columns.map(({ label, kind }) =>
    label ? h("th", { scope: "col", class: kind }, label) : h("td", { class: kind }),
  );
  const body = rows.map((row) =>
    h(
      "tr",
      null,
      columns.map(({ label, cell, kind }, at) => {
        const content = h("div.cell", null, cell(row));
        return at
          ? h("td", { class: kind, "data-label": label }, content)
          : h("th", { class: kind, scope: "row" }, content);
      }),
    ),
  );
  return h(
    "div.table",
    null,
    h("table", null, h("caption", null, caption), h("thead", null, h("tr", null, head)), h("tbody", null, body)),
  );
}

/**
 * Fills a place where there is nothing yet: says what that means, and what to do.
 *
 * @param {string} title
 * @param {string} text
 * @param {...Child} actions
 */
export function empty(title, text, ...actions) {
  return h(
    "div.empty",
    null,
    h("p.title", null, title),
    h("p", null, text),
    actions.length ? h("p", null, actions) : null,
  );
}

/**
 * @param {string} text
 * @param {string} [kind] a class: `good`, `waiting`, `bad`, `accent`
 */
export function badge(text, kind = "") {
  return h("span", { class: `badge ${kind}` }, text);
}
