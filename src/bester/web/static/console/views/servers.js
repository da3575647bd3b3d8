/** The view of servers: the links to other servers, the messages that wait for them, and the dead letters. */

import { ask, badge, empty, h, replace, table, toast } from "../../ui/dom.js";
import { bytes, clock, count, day, span } from "../../ui/format.js";
import { command } from "../api.js";
import { attempt, confirm, pager, rowButton } from "./acting.js";
import { poll } from "./polling.js";

/** @import { Place } from "../model.js" */

const PAGE = 50;

/** @param {Place} place */
export function servers({ page }) {
  const links = h("section.card.list", { "aria-labelledby": "links" });
  const queue = h("section.card.list", { "aria-labelledby": "queue" });
  const pages = [0];
  let dead = true;
  replace(page, links, queue);

  /** @param {[any, any[]]} found this server's identity, and the other servers */
  function showLinks([own, rows]) {
    const title = [h("h2", { id: "links" }, "Links"), ownIdentity(own)];
    if (!rows.length) {
      const text =
        "Name one in the configuration under federation.servers, or let a handler send to an address; bester peer helps with the certificates.";
      replace(links, ...title, empty("No other servers yet", text));
      return;
    }
    replace(
      links,
      ...title,
      table({
        caption: "Other servers",
        rows: rows.slice(0, 100),
        columns: [
          {
            label: "Server",
            cell: (row) => [
              row.name,
              row.address !== row.name && h("div.muted.mono.note", null, row.address),
              row.lastError && h("div.cut.error-text.note", { title: row.lastError }, row.lastError),
            ],
          },
          { label: "Link", cell: state },
          { label: "Identity", cell: identity },
          { label: "In flight", kind: "number", cell: (row) => count(row.inFlight) },
          {
            label: "Waiting",
            kind: "number",
            cell: (row) => (row.waiting ? badge(count(row.waiting), "waiting") : "0"),
          },
          { label: "Given up", kind: "number", cell: (row) => (row.dead ? badge(count(row.dead), "bad") : "0") },
          {
            label: "Next try",
            kind: "once",
            cell: (row) => (row.retryIn === null || row.retryIn === undefined ? "–" : `in ${span(row.retryIn)}`),
          },
          { label: "", kind: "actions", cell: linkActions },
        ],
      }),
    );
  }

  /** @param {any} row */
  function state(row) {
    if (row.link === "up") {
      const since = row.seconds === undefined ? "" : ` for ${span(row.seconds)}`;
      return badge(`up${since}${row.node ? ` at ${row.node}` : ""}`, "good");
    }
    if (row.link === "classic") return badge("classic", "accent");
    if (row.waiting || row.retryIn) return badge("down", "bad");
    return badge(row.incoming ? "incoming" : "idle");
  }

  /**
   * Shows the certificate by which other servers know this one, for their operators.
   *
   * @param {any} own
   */
  function ownIdentity(own) {
    if (!own) return h("p.muted", null, "This server has no certificate, and proves its name to nobody.");
    return h(
      "dl.facts",
      { "aria-label": "This server" },
      h("dt", null, "This server"),
      h("dd", null, own.name),
      h("dt", null, "Key"),
      h("dd.mono", null, own.key),
      h("dt", null, "Certificate"),
      h("dd.mono", null, own.certificate),
      h("dt", null, "Ends"),
      h("dd", null, day(own.expires)),
    );
  }

  /** @param {any} row */
  function identity(row) {
    const shown = row.presented;
    const wrong = shown && row.pinned && !shown.proven;
    const known = wrong
      ? badge("wrong certificate", "bad")
      : row.verified || shown?.proven
        ? badge("verified", "good")
        : row.link === "up" || row.link === "classic"
          ? badge("not verified", "waiting")
          : h("span.muted.once", null, "not met yet");
    return [
      known,
      ...(row.pinned ?? []).map((/** @type {string} */ pin) => fingerprint("pinned", pin)),
      shown && fingerprint("key", shown.key),
      shown && fingerprint("certificate", shown.certificate),
      shown && h("div.muted.note", null, `ends ${day(shown.expires)}`),
    ];
  }

  /**
   * @param {string} what
   * @param {string} digits
   */
  function fingerprint(what, digits) {
    return h("div.cut.muted.note", { title: `${what} ${digits}` }, `${what} `, h("span.mono", null, digits));
  }

  /** @param {any} row */
  function linkActions(row) {
    if (!row.waiting && !row.dead) return null;
    return h(
      "div.buttons",
      null,
      rowButton({
        what: "Retry all",
        about: row.name,
        label: `Retry all for ${row.name}`,
        onclick: () => retry({ server: row.name }, `all for ${row.name}`),
      }),
    );
  }

  // -- the outbox -----------------------------------------------------------------------------------------------------

  let more = false;

  /** @returns {Promise<[any[], boolean, number]>} */
  async function loadQueue() {
    /** @type {any[]} */
    const rows = await command("listQueue", { dead, after: pages.at(-1), limit: PAGE + 1 });
    more = rows.length > PAGE;
    return [rows.slice(0, PAGE), dead, pages.length];
  }

  /** @param {[any[], ...unknown[]]} found */
  function showQueue([rows]) {
    /** @type {(value: boolean, text: string) => HTMLElement} */
    const choose = (value, text) =>
      h(
        "button.small",
        {
          type: "button",
          "aria-pressed": dead === value ? "true" : "false",
          class: dead === value ? "primary" : null,
          dataset: { focus: `dead:${value}` },
          onclick: () => {
            dead = value;
            pages.length = 1;
            queuePolling.now();
          },
        },
        text,
      );
    const head = h(
      "div.pager",
      null,
      h("h2", { id: "queue" }, dead ? "Dead letters" : "Waiting messages"),
      h(
        "div.buttons",
        { role: "group", "aria-label": "Which messages" },
        choose(true, "Given up"),
        choose(false, "Waiting"),
      ),
    );
    if (!rows.length) {
      const text = dead
        ? "Messages that could not be sent for days, or that the other server refused, are kept here to be looked at."
        : "Everything that was accepted for other servers has been sent.";
      replace(queue, head, empty(dead ? "No dead letters" : "Nothing waits", text));
      return;
    }
    replace(
      queue,
      head,
      table({
        caption: dead ? "Dead letters" : "Waiting messages",
        rows,
        columns: [
          { label: "Message", cell: (row) => row.id },
          { label: "For", cell: (row) => row.server },
          { label: "Type", cell: (row) => row.type },
          { label: "Size", kind: "number", cell: (row) => bytes(row.bytes) },
          { label: "Since", kind: "once", cell: (row) => day(row.created) },
          { label: "Tries", kind: "number", cell: (row) => count(row.tries) },
          {
            label: "Last error",
            cell: (row) =>
              row.lastError
                ? h("span.cut.error-text", { title: row.lastError }, row.lastError)
                : h("span.muted", null, "none"),
          },
          { label: "", kind: "actions", cell: queueActions },
        ],
      }),
      pager({
        shown: `Page ${pages.length}`,
        back: pages.length > 1 && (() => turn(() => pages.pop())),
        on: more && (() => turn(() => pages.push(rows[rows.length - 1].id))),
      }),
    );
  }

  /** @param {() => void} change */
  function turn(change) {
    change();
    queuePolling.now();
  }

  /** @param {any} row */
  function queueActions(row) {
    /** @type {(what: string, onclick: () => unknown) => HTMLElement} */
    const button = (what, onclick) => rowButton({ what, about: row.id, label: `${what} message ${row.id}`, onclick });
    return h(
      "div.buttons",
      null,
      button("Show", () => look(row)),
      button("Retry", () => retry({ ids: [row.id] }, `message ${row.id}`)),
      button("Drop", () => drop(row)),
    );
  }

  /** @param {any} row */
  async function look({ id }) {
    await attempt(async () => {
      const found = await command("showQueue", { id });
      const facts = [
        ["For", found.server],
        ["Type", found.type],
        ["Id", found.messageId],
        ["Since", day(found.created)],
        ["Tries", found.tries],
        ["Next try", found.nextTry ? clock(found.nextTry) : "none"],
        ["Hops", found.hops],
        ["Trace", found.traceparent],
        ["Last error", found.lastError],
      ];
      const body = h(
        "div.stack",
        null,
        h(
          "dl.facts",
          null,
          facts
            .filter(([, value]) => value !== null && value !== undefined)
            .map(([name, value]) => [h("dt", null, name), h("dd", null, String(value))]),
        ),
        h("pre", { tabindex: 0, role: "region", "aria-label": "Data" }, pretty(found.data)),
        found.cut && h("p.muted", null, "Only the first 64 KiB are shown."),
      );
      ask({ title: `Message ${id}`, body, action: "Close" });
    });
  }

  /**
   * @param {object} args
   * @param {string} what
   */
  async function retry(args, what) {
    await attempt(async () => {
      await command("retryQueue", args);
      toast(`Trying ${what} now.`);
    });
    queuePolling.now();
    linkPolling.now();
  }

  /** @param {any} row */
  function drop({ id, server }) {
    confirm({
      title: `Drop message ${id}?`,
      action: "Drop message",
      body: `${server} will not get it. This cannot be undone.`,
      run: async () => {
        await command("dropQueue", { ids: [id] });
        toast(`Message ${id} was dropped.`);
        queuePolling.now();
        linkPolling.now();
      },
    });
  }

  /** @type {(where: Element) => (error: Error) => void} */
  const failed = (where) => (error) => replace(where, empty("This cannot be shown", error.message));
  const linkPolling = poll(
    () => Promise.all([command("identity"), command("listServers")]),
    showLinks,
    failed(links),
    2000,
  );
  const queuePolling = poll(loadQueue, showQueue, failed(queue), 4000);
  return () => {
    linkPolling.stop();
    queuePolling.stop();
  };
}

/**
 * Breaks the lines of JSON; any other text stays.
 *
 * @param {string} text
 */
function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}
