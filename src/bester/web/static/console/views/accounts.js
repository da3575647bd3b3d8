/** Accounts: a page of them at a time, found by how their names begin. */

import { ask, badge, check, empty, field, h, replace, table, toast } from "../../ui/dom.js";
import { bytes, count, day, span } from "../../ui/format.js";
import { command, session } from "../api.js";
import { attempt, confirm, pager, rowButton } from "./acting.js";
import { poll } from "./polling.js";

const PAGE = 50;

export function accounts({ page, tools }) {
  const pages = [""];
  let more = false;
  let prefix = "";
  const list = h("section.card.list", { "aria-label": "Accounts" });
  const search = h("input", {
    type: "search",
    placeholder: "Name begins with…",
    "aria-label": "Search accounts by how the name begins",
    dataset: { search: "" },
    oninput: () => {
      prefix = search.value;
      pages.length = 1;
      clearTimeout(search.timer);
      search.timer = setTimeout(polling.now, 200);
    },
  });
  replace(tools, search, h("button.primary", { type: "button", onclick: add }, "Add account"));
  replace(page, list);

  async function load() {
    // The names are sorted: what begins with a text stands behind it, and itself.
    const after = pages.at(-1) || before(prefix);
    const rows = await command("listAccounts", { after, limit: PAGE + 1 });
    const wanted = rows.filter((row) => row.username.startsWith(prefix.toLowerCase()));
    more = wanted.length > PAGE;
    return wanted.slice(0, PAGE);
  }

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
                ? row.roles.map((role) => [badge(role, role === "admin" ? "accent" : ""), " "])
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
        on: more && (() => turn(() => pages.push(rows.at(-1).username))),
      }),
    );
  }

  function turn(change) {
    change();
    polling.now();
  }

  function actions(row) {
    const name = row.username;
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

  const done = (text) => {
    toast(text);
    polling.now();
  };

  async function add() {
    let name = "";
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
      run: async ({ elements }) => {
        const args = {
          username: elements.username.value,
          password: elements.password.value,
          admin: elements.admin.checked,
        };
        name = (await command("addAccount", args))?.username ?? args.username;
        done(`${name} was added.`);
      },
    });
  }

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
      run: async ({ elements }) => {
        await command("setPassword", { username, password: elements.password.value });
        done(`${username} has a new password.`);
      },
    });
  }

  function roles({ username, roles: have }) {
    ask({
      title: `Roles of ${username}`,
      action: "Set roles",
      body: field(
        "Roles",
        { name: "roles", value: have.join(", "), autocomplete: "off" },
        "Separated by commas. The role admin may use this console; handlers may be kept for others.",
      ),
      run: async ({ elements }) => {
        const wanted = elements.roles.value
          .split(",")
          .map((role) => role.trim())
          .filter(Boolean);
        await command("setRoles", { username, roles: wanted });
        done(`The roles of ${username} are set.`);
      },
    });
  }

  function remove({ username, mailbox }) {
    const lost = mailbox?.messages ? ` The ${count(mailbox.messages)} messages in its mailbox go with it.` : "";
    confirm({
      title: `Remove ${username}?`,
      action: "Remove account",
      body: `Its sessions end, and it cannot sign in any more.${lost} There is no way back.`,
      run: async () => {
        await command("removeAccount", { username });
        done(`${username} was removed.`);
      },
    });
  }

  async function sessions({ username }) {
    const all = await attempt(() => command("listClients", { after: before(username), limit: 2 }));
    if (!all) return;
    const found = all.find((client) => client.username === username)?.sessions ?? [];
    const most = 20;
    const body = h(
      "div.stack",
      null,
      table({
        caption: `Sessions of ${username}`,
        rows: found.slice(0, most),
        columns: [
          { label: "From", cell: (row) => row.address || "local" },
          ...(found.some((row) => row.node) ? [{ label: "Node", cell: (row) => row.node }] : []),
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
    clearTimeout(search.timer);
    polling.stop();
  };
}

/** A text that stands right before this one in the order of names, or as near as needed. */
function before(text) {
  const name = text.toLowerCase();
  if (!name) return "";
  const last = name.codePointAt(name.length - 1);
  return last > 0x21 ? `${name.slice(0, -1)}${String.fromCodePoint(last - 1)}\u{10ffff}` : name.slice(0, -1);
}
