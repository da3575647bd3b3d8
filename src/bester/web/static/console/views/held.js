/** The page of held messages: those that guards hold for the operators' consent, and the senders that these trust. */

import { ask, badge, check, control, empty, h, replace, table, toast } from "../../ui/dom.js";
import { bytes, count, day } from "../../ui/format.js";
import { command } from "../api.js";
import { confirm, pager, rowButton } from "./acting.js";
import { poll } from "./polling.js";

/** @import { Place } from "../model.js" */
/** @typedef {{user: string} | {server: string}} Sender */

const PAGE = 50;
const ABOUT =
  "A guard may hold a message until the operators consent, as the first one of an unknown server. Such messages appear here, and their senders hear nothing before you decide.";

/** @param {Sender} sender */
const nameOf = (sender) => ("user" in sender ? sender.user : sender.server);

/**
 * Returns whom a message's sender is to the commands; null where it proved no name, and can be trusted by nobody.
 *
 * @param {any} row
 * @returns {Sender | null}
 */
function senderOf({ from }) {
  if (from.user) return { user: from.user };
  return from.server && from.verified ? { server: from.server } : null;
}

/** @param {any} row */
const shownSender = (row) => row.from.user ?? row.from.server ?? "a server without a proven name";

/** @param {Place} place */
export function held({ page, tools }) {
  const list = h("section.card.list", { "aria-labelledby": "held" });
  const trust = h("section.card.list", { "aria-labelledby": "trusted" });
  const pages = [0];
  replace(tools, h("a.button", { href: "#/messages" }, "All messages"));
  replace(page, list, trust);

  async function load() {
    const found = await command("listHeld", { after: pages.at(-1), limit: PAGE + 1 });
    return { ...found, turned: pages.length };
  }

  /** @param {any} found */
  function show({ held: found, trusted, counts }) {
    const rows = found.slice(0, PAGE);
    const forAccounts = h(
      "p.muted.aside",
      null,
      counts.accounts
        ? `${count(counts.accounts)} more ${counts.accounts === 1 ? "is" : "are"} held for accounts, which decide themselves.`
        : "None is held for an account.",
    );
    const title = h("h2", { id: "held" }, "Held for the operators ", rows.length > 0 && badge(count(counts.operators)));
    if (!rows.length) replace(list, title, forAccounts, empty("Nothing is held", ABOUT));
    else replace(list, title, forAccounts, heldTable(rows), pagesOf(rows, found.length > PAGE));
    replace(
      trust,
      h("h2", { id: "trusted" }, "Trusted senders"),
      trusted.length
        ? trustTable(trusted)
        : empty("Nobody is trusted yet", "Release a message and choose to trust its sender: then it is held no more."),
    );
  }

  /** @param {any[]} rows */
  function heldTable(rows) {
    return table({
      caption: "Held messages, the oldest first",
      rows,
      columns: [
        { label: "Message", cell: (row) => row.id },
        {
          label: "From",
          cell: (row) => [shownSender(row), !senderOf(row) && h("div.muted.note", null, "not verified")],
        },
        { label: "Type", cell: (row) => row.type },
        { label: "Guard", cell: (row) => row.guard },
        { label: "Since", kind: "once", cell: (row) => day(row.created) },
        { label: "Size", kind: "number", cell: (row) => bytes(row.bytes) },
        { label: "Data", cell: (row) => h("span.cut.mono", { title: row.data.slice(0, 300) }, row.data) },
        { label: "", kind: "actions", cell: actions },
      ],
    });
  }

  /**
   * @param {any[]} rows
   * @param {boolean} more
   */
  function pagesOf(rows, more) {
    const turn = (/** @type {() => unknown} */ change) => () => {
      change();
      polling.now();
    };
    return pager({
      shown: `Page ${pages.length}`,
      back: pages.length > 1 && turn(() => pages.pop()),
      on: more && turn(() => pages.push(rows[rows.length - 1].id)),
    });
  }

  /** @param {any} row */
  function actions(row) {
    /** @type {(what: string, act: (row: any) => unknown) => HTMLElement} */
    const button = (what, act) =>
      rowButton({ what, about: row.id, label: `${what} message ${row.id}`, onclick: () => act(row) });
    return h("div.buttons", null, button("Show", look), button("Release", release), button("Refuse", refuse));
  }

  /** @param {any} row */
  function look(row) {
    const facts = [
      ["From", shownSender(row)],
      ["Type", row.type],
      ["Id", row.messageId],
      ["Guard", row.guard],
      ["Since", day(row.created)],
      ["Hops", row.hops],
    ];
    const body = h(
      "div.stack",
      null,
      h(
        "dl.facts",
        null,
        facts.filter(([, value]) => value !== "").map(([name, value]) => [h("dt", null, name), h("dd", null, value)]),
      ),
      h("pre", { tabindex: 0, role: "region", "aria-label": "Data" }, row.data),
      row.cut && h("p.muted", null, `Only the first 2 KiB of ${bytes(row.bytes)} are shown.`),
    );
    ask({ title: `Held message ${row.id}`, body, action: "Close" });
  }

  /** @param {any} row */
  function release(row) {
    const sender = senderOf(row);
    ask({
      title: `Release message ${row.id}?`,
      action: "Release",
      body: [
        h("p", null, `The handler of ${row.type} gets it now, as from ${shownSender(row)}.`),
        sender
          ? check(`Always trust ${nameOf(sender)}: release all that is held of it, and hold it no more`, { name: "all" })
          : h("p.muted", null, "Its sender cannot be trusted: it proved no name."),
      ],
      run: async (form) => {
        const all = sender && control(form, "all").checked;
        const done = await command("release", all ? { ...sender, always: true } : { ids: [row.id] });
        tell(done.messages, "released", all ? `; ${nameOf(sender)} is trusted` : "");
      },
    });
  }

  /** @param {any} row */
  function refuse(row) {
    const sender = senderOf(row);
    confirm({
      title: `Refuse message ${row.id}?`,
      action: "Refuse",
      body: [
        h("p", null, "It is removed, and its sender is not told. This cannot be undone."),
        sender && check(`All that is held of ${nameOf(sender)}`, { name: "all" }),
      ],
      run: async (form) => {
        const all = sender && control(form, "all").checked;
        tell((await command("refuse", all ? sender : { ids: [row.id] })).messages, "refused");
      },
    });
  }

  /** @param {Sender[]} rows */
  function trustTable(rows) {
    return table({
      caption: "Trusted senders",
      rows: rows.slice(0, 200),
      columns: [
        { label: "Sender", cell: nameOf },
        { label: "Is", cell: (row) => ("user" in row ? "an account" : "a server, and no stranger to guards") },
        {
          label: "",
          kind: "actions",
          cell: (row) => rowButton({ what: "Forget", about: nameOf(row), onclick: () => forget(row) }),
        },
      ],
    });
  }

  /** @param {Sender} sender */
  function forget(sender) {
    const name = nameOf(sender);
    confirm({
      title: `Trust ${name} no longer?`,
      action: "Forget",
      body: "Guards may hold again what it sends. What is held of it now is removed.",
      run: async () => {
        await command("refuse", sender);
        toast(`${name} is not trusted any more.`);
        polling.now();
      },
    });
  }

  /**
   * @param {number} messages
   * @param {string} what became of them
   * @param {string} [more]
   */
  function tell(messages, what, more = "") {
    toast(`${count(messages)} ${messages === 1 ? "message was" : "messages were"} ${what}${more}.`);
    polling.now();
  }

  const polling = poll(
    load,
    show,
    (error) => replace(list, empty("What is held cannot be shown", error.message)),
    4000,
  );
  return polling.stop;
}

/**
 * Makes the link to the page, and says now and then how many messages are held.
 *
 * @returns {{link: HTMLElement, stop: () => void}}
 */
export function heldLink() {
  const number = h("span");
  const { stop } = poll(
    async () => (await command("listHeld", { limit: 1 })).counts.operators,
    (held) => replace(number, held > 0 && badge(count(held), "waiting")),
    () => {},
    10_000,
  );
  return { link: h("a.button", { href: "#/messages/held" }, "Held messages", number), stop };
}
