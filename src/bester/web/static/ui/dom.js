/**
 * Building the page: everything from a server goes in as text, never as HTML.
 */

const SVG = "http://www.w3.org/2000/svg";

/**
 * Makes an element: `h("button.quiet", {onclick, "aria-label": "Close"}, "×")`.
 *
 * @param {string} what a tag with classes
 * @param {object} [props] `on...` are listeners, `dataset` is an object, what is null or false is left out
 * @param {...any} children nodes, texts, lists of them; null and false are left out
 * @returns {HTMLElement}
 */
export function h(what, props, ...children) {
  const [tag, ...classes] = what.split(".");
  return fill(document.createElement(tag), classes, props, children);
}

/** The same for SVG. @returns {SVGElement} */
export function s(what, props, ...children) {
  const [tag, ...classes] = what.split(".");
  return fill(document.createElementNS(SVG, tag), classes, props, children);
}

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

function append(element, children) {
  for (const child of children) {
    if (Array.isArray(child)) append(element, child);
    else if (child !== null && child !== undefined && child !== false) {
      element.append(child instanceof Node ? child : String(child));
    }
  }
}

/** Replaces what is in an element; whoever has the keyboard keeps it, by `data-focus`. */
export function replace(element, ...children) {
  const focused = element.contains(document.activeElement) ? document.activeElement.dataset.focus : undefined;
  const nodes = document.createDocumentFragment();
  append(nodes, children);
  element.replaceChildren(nodes);
  if (focused) element.querySelector(`[data-focus="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
}

/** Sets a text only where it differs, so that nothing is laid out in vain. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// -- telling and asking ---------------------------------------------------------------------------------------------

/** Shows for some seconds how something went, and tells it to screen readers. */
export function toast(text, kind = "good") {
  const region = document.getElementById("toasts");
  const close = h("button.quiet", { type: "button", "aria-label": "Dismiss", onclick: () => note.remove() }, "×");
  const note = h(`div.toast.${kind}`, null, h("span", null, text), close);
  region.append(note);
  while (region.children.length > 4) region.firstChild.remove();
  setTimeout(() => note.remove(), kind === "bad" ? 10_000 : 5_000);
}

/**
 * Asks in a dialog.
 *
 * @param {object} options
 * @param {string} options.title
 * @param {any} [options.body] a text, or nodes
 * @param {string} options.action what the button says
 * @param {boolean} [options.danger]
 * @param {(form: HTMLFormElement) => Promise<void>} [options.run] done before the dialog closes; what it throws is shown
 * @returns {Promise<boolean>} whether it was done
 */
export function ask({ title, body, action, danger = false, run }) {
  return new Promise((resolve) => {
    const wrong = h("p.wrong", { role: "alert" });
    const go = h(danger ? "button.danger" : "button.primary", { type: "submit" }, action);
    const cancel = h(
      "button",
      { type: "button", onclick: () => dialog.close() },
      action === "Close" ? "Back" : "Cancel",
    );
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
    (form.querySelector("input, select, textarea") ?? (danger ? cancel : go)).focus();
  });
}

/** A labelled control: `field("Username", {name: "username", required: true})`. */
export function field(label, props = {}, hint = null) {
  const { tag = "input", options, ...rest } = props;
  const id = `field-${rest.name}-${(field.count = (field.count ?? 0) + 1)}`;
  const control = h(tag, { id, ...rest, "aria-describedby": hint ? `${id}-hint` : null });
  for (const option of options ?? []) {
    const [value, text] = Array.isArray(option) ? option : [option, option];
    control.append(h("option", { value }, text));
  }
  if (rest.value !== undefined) control.value = rest.value;
  return h("div.field", null, h("label", { for: id }, label), control, hint && h("p.hint", { id: `${id}-hint` }, hint));
}

/** A check box with its label. */
export function check(label, props = {}) {
  return h("label.check", null, h("input", { type: "checkbox", ...props }), h("span", null, label));
}

// -- tables ---------------------------------------------------------------------------------------------------------

/**
 * @param {object} options
 * @param {string} options.caption for screen readers
 * @param {{label: string, cell: (row: any) => any, kind?: string}[]} options.columns `kind` is a class: `number`, `wide`
 * @param {any[]} options.rows never more than a page of them
 * @param {(row: any) => string} [options.rowClass]
 */
export function table({ caption, columns, rows, rowClass }) {
  const head = columns.map(({ label, kind }) =>
    label ? h("th", { scope: "col", class: kind }, label) : h("td", { class: kind }),
  );
  const body = rows.map((row) =>
    h(
      "tr",
      { class: rowClass?.(row) || null },
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

/** What stands where there is nothing yet: what that means, and what to do. */
export function empty(title, text, ...actions) {
  return h(
    "div.empty",
    null,
    h("p.title", null, title),
    h("p", null, text),
    actions.length ? h("p", null, actions) : null,
  );
}

export function badge(text, kind = "") {
  return h("span", { class: `badge ${kind}` }, text);
}
