/** The view of accounts: a page of them at a time, found by the beginning of their names. */

import { ask, badge, check, control, empty, field, h, replace, table, toast } from "../../ui/dom.js";
import { bytes, count, day, span } from "../../ui/format.js";
import { command, session } from "../api.js";
import { attempt, confirm, pager, rowButton } from "./acting.js";
import { poll } from "./polling.js";

/** @import { Place } from "../model.js" */

const PAGE = 50;

/** @param {Pick<Place, "page" | "tools">} place */
export function accounts({ page, tools }) {
  const pages = [""];
  let more = false;
  let prefix = "";
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  const list = h("section.card.list", { "aria-label": "Accounts" });
  const search = h("input", {
    type: "search",
    placeholder: "Name begins with…",
    "aria-label": "Search accounts by how the name begins",
    dataset: { search: "" },
    oninput: () => {
      prefix = search.value;
      pages.length = 1;
      clearTimeout(timer);
      timer = setTimeout(() => polling.now(), 200);
    },
  });
  replace(tools, search, h("button.primary", { type: "button", onclick: add }, "Add account"));
  replace(page, list);

  async function load() {
    // The names are sorted: those with this prefix come directly behind it.
    const after = pages.at(-1) || before(prefix);
    /** @type {any[]} */
    const rows = await command("listAccounts", { after, limit: PAGE + 1 });
    const wanted = rows.filter((row) => row.username.startsWith(prefix.toLowerCase()));
    more = wanted.length > PAGE;
    return wanted.slice(0, PAGE);
  }

  /** @param {any[]} rows */
  function show(rows) {
    if (!rows.length && pages.length === 1) {
      const text = prefix
        ? "Try a shorter beginning; names are kept in lower case."
        : "Accounts let people and programs sign in and send.";
      replace(
        list,
        empty(
          prefix ? `No account begins with “${prefix}”` : "No accounts yet",
          text,
          h("button.primary", { type: "button", onclick: add }, "Add account"),
        ),
      );
      return;
    }
    replace(
      list,
      table({
        caption: "Accounts",
        rows,
        columns: [
          { label: "Account", cell: (row) => row.username },
          {
            label: "Roles",
            cell: (row) =>
              row.roles.length
                ? row.roles.map((/** @type {string} */ role) => [badge(role, role === "admin" ? "accent" : ""), " "])
                : h("span.muted", null, "–"),
          },
          { label: "Sessions", kind: "number", cell: (row) => count(row.sessions) },
          {
            label: "Mailbox",
            kind: "number",
            cell: (row) =>
              row.mailbox?.messages
                ? `${count(row.mailbox.messages)} · ${bytes(row.mailbox.bytes)}`
                : h("span.muted", null, "empty"),
          },
          { label: "Made", kind: "once", cell: (row) => day(row.created) },
          { label: "", kind: "actions", cell: actions },
        ],
      }),
      pager({
        shown: `Page ${pages.length}`,
        back: pages.length > 1 && (() => turn(() => pages.pop())),
        on: more && (() => turn(() => pages.push(rows[rows.length - 1].username))),
      }),
    );
  }

  /** @param {() => void} change */
  function turn(change) {
    change();
    polling.now();
  }

  /** @param {any} row */
  function actions(row) {
    const name = row.username;
    /** @type {(label: string, what: string, act: (row: any) => unknown, disabled?: boolean) => HTMLElement} */
    const button = (label, what, act, disabled = false) =>
      rowButton({ what, about: name, label: `${label} ${name}`, disabled, onclick: () => act(row) });
    return h(
      "div.buttons",
      null,
      button("Sessions of", "Sessions", sessions, !row.sessions),
      button("Roles of", "Roles", roles),
      button("Set the password of", "Password", setPassword),
      button("Remove", "Remove", remove, name === session.user),
    );
  }

  const done = (/** @type {string} */ text) => {
    toast(text);
    polling.now();
  };

  async function add() {
    await ask({
      title: "Add an account",
      action: "Add account",
      body: h(
        "div.stack",
        null,
        field("Username", {
          name: "username",
          required: true,
          maxlength: 64,
          autocomplete: "off",
          autocapitalize: "none",
        }),
        field("Password", { name: "password", type: "password", required: true, autocomplete: "new-password" }),
        check("Administrator: may use this console", { name: "admin" }),
      ),
      run: async (form) => {
        const args = {
          username: control(form, "username").value,
          password: control(form, "password").value,
          admin: control(form, "admin").checked,
        };
        const name = (await command("addAccount", args))?.username ?? args.username;
        done(`${name} was added.`);
      },
    });
  }

  /** @param {any} row */
  function setPassword({ username }) {
    ask({
      title: `A new password for ${username}`,
      action: "Set password",
      body: h(
        "div.stack",
        null,
        h("p", null, "Its sessions and tokens end."),
        field("New password", { name: "password", type: "password", required: true, autocomplete: "new-password" }),
      ),
      run: async (form) => {
        await command("setPassword", { username, password: control(form, "password").value });
        done(`${username} has a new password.`);
      },
    });
  }

  /** @param {any} row */
  function roles({ username, roles: have }) {
    ask({
      title: `Roles of ${username}`,
      action: "Set roles",
      body: field(
        "Roles",
        { name: "roles", value: have.join(", "), autocomplete: "off" },
        "Separated by commas. The role admin may use this console; handlers may be kept for others.",
      ),
      run: async (form) => {
        const wanted = control(form, "roles")
          .value.split(",")
          .map((role) => role.trim())
          .filter(Boolean);
        await command("setRoles", { username, roles: wanted });
        done(`The roles of ${username} are set.`);
      },
    });
  }

  /** @param {any} row */
  function remove({ username, mailbox }) {
    const lost = mailbox?.messages ? ` The ${count(mailbox.messages)} messages in its mailbox go with it.` : "";
    confirm({
      title: `Remove ${username}?`,
      action: "Remove account",
      body: `Its sessions end, and it cannot sign in any more.${lost} This cannot be undone.`,
      run: async () => {
        await command("removeAccount", { username });
        done(`${username} was removed.`);
      },
    });
  }

  /** @param {any} row */
  async function sessions({ username }) {
    const all = await attempt(() => command("listClients", { after: before(username), limit: 2 }));
    if (!all) return;
    /** @type {any[]} */
    const found = all.find((/** @type {any} */ client) => client.username === username)?.sessions ?? [];
    /** @type {{label: string, cell: (row: any) => string}[]} */
    const inCluster = found.some((row) => row.node) ? [{ label: "Node", cell: (row) => row.node }] : [];
    const most = 20;
    const body = h(
      "div.stack",
      null,
      table({
        caption: `Sessions of ${username}`,
        rows: found.slice(0, most),
        columns: [
          { label: "From", cell: (row) => row.address || "local" },
          ...inCluster,
          { label: "Connected for", cell: (row) => span(row.seconds) },
          { label: "In flight", kind: "number", cell: (row) => count(row.inFlight) },
          { label: "Features", cell: (row) => [...row.features].join(", ") || "none" },
        ],
      }),
      found.length > most && h("p.muted", null, `and ${found.length - most} more`),
      h("p.muted", null, "Ending them lets the account sign in again; set a password to keep it out."),
    );
    confirm({
      title: `Sessions of ${username}`,
      action: found.length > 1 ? `End all ${found.length} sessions` : "End the session",
      body,
      run: async () => {
        const { sessions: ended } = await command("kick", { username });
        done(`${count(ended)} ${ended === 1 ? "session" : "sessions"} of ${username} ended.`);
      },
    });
  }

  const polling = poll(
    load,
    show,
    (error) => replace(list, empty("The accounts cannot be shown", error.message)),
    5000,
  );
  return () => {
    clearTimeout(timer);
    polling.stop();
  };
}

/**
 * Returns a text that comes directly before this one in the order of names, or nearly.
 *
 * @param {string} text
 */
function before(text) {
  const name = text.toLowerCase();
  if (!name) return "";
  const last = name.codePointAt(name.length - 1) ?? 0;
  return last > 0x21 ? `${name.slice(0, -1)}${String.fromCodePoint(last - 1)}\u{10ffff}` : name.slice(0, -1);
}
