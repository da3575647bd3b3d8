/**
 * Mirrors an account's chat, from its events (docs/chat.md, section 3).
 *
 * The mirror knows the end of each conversation, without gaps: all entries from its `floor` on.
 */

/**
 * A message. Only your own messages have a state.
 *
 * @typedef {object} Entry
 * @property {number} pos its place in the account's history; Infinity while it is on its way
 * @property {string} with the conversation
 * @property {string} from
 * @property {string} id
 * @property {number} time milliseconds since 1970
 * @property {string} text
 * @property {string} [state]
 * @property {string} [reason] why it failed
 */

/**
 * A conversation as the server lists it.
 *
 * @typedef {object} TalkRow
 * @property {string} with a person's address, or a room's
 * @property {number} last the last entry's place
 * @property {number} read
 * @property {number} unread
 * @property {string} preview
 * @property {number} time
 * @property {string} status
 * @property {string} topic
 * @property {number} members
 * @property {boolean} open
 * @property {string} [by] whose invitation it is
 */

/**
 * @typedef {object} Conversation
 * @property {TalkRow} talk
 * @property {Map<string, Entry>} entries
 * @property {number | null} floor the place of the first known entry
 * @property {boolean} complete whether all entries are known
 */

/** @type {Record<string, number>} */
const RANKS = { sent: 0, arrived: 1, delivered: 2, read: 3, failed: 4 };
const MAX_PREVIEW = 120;

/** @param {Pick<Entry, "from" | "id">} entry */
export const keyOf = (entry) => `${entry.from} ${entry.id}`;
/** @param {string} name */
export const isRoom = (name) => name.startsWith("#");
/** @param {string} address */
export const serverOf = (address) => address.slice(address.lastIndexOf("@") + 1);

/**
 * Returns an address as the page shows it: people and rooms of your own server without the server.
 *
 * @param {string} address
 * @param {string} you
 */
export function called(address, you) {
  return serverOf(address) === serverOf(you) ? address.slice(0, address.lastIndexOf("@")) : address;
}

/**
 * @param {Partial<TalkRow> & {with: string}} talk
 * @returns {TalkRow}
 */
function filled(talk) {
  return { last: 0, read: 0, unread: 0, preview: "", time: 0, status: "", topic: "", members: 0, open: true, ...talk };
}

export class Mirror {
  you = "";
  /** The number of the last change that is known. */
  cursor = 0;
  /** @type {string[]} */
  blocked = [];
  /** @type {Set<string>} */
  online = new Set();
  /**
   * By their names.
   *
   * @type {Map<string, Conversation>}
   */
  conversations = new Map();

  /** @param {string} name */
  conversation(name) {
    let found = this.conversations.get(name);
    if (!found) {
      found = { talk: filled({ with: name }), entries: new Map(), floor: null, complete: false };
      this.conversations.set(name, found);
    }
    return found;
  }

  /** Returns the conversations, the latest first. */
  listed() {
    return [...this.conversations.values()].sort(
      (one, other) => other.talk.last - one.talk.last || (one.talk.with < other.talk.with ? -1 : 1),
    );
  }

  /**
   * Returns the entries of a conversation, in order.
   *
   * @param {string} name
   */
  lines(name) {
    return [...this.conversation(name).entries.values()].sort((one, other) => one.pos - other.pos);
  }

  /**
   * Takes the answer to `hello`.
   *
   * @param {any} answer
   */
  greeted({ you, seq = 0, talks = [], blocked = [], online = [] }) {
    this.you = you;
    if (this.cursor === 0 || seq < this.cursor) {
      // Either this is the first answer, or the server has another database: what was known does not hold.
      this.conversations.clear();
      this.cursor = seq;
    }
    for (const talk of talks) this.conversation(talk.with).talk = filled(talk);
    this.blocked = blocked;
    this.online = new Set(online);
  }

  /**
   * Takes the answer to `sync`.
   *
   * @param {any} answer
   */
  synced({ changes = [], seq = 0 }) {
    for (const change of changes) {
      if (change.op === "entry") this.#entry(change.entry);
      else this.conversation(change.talk.with).talk = filled(change.talk);
    }
    this.cursor = Math.max(this.cursor, seq);
  }

  /**
   * Takes the answer to `history`.
   *
   * @param {string} name
   * @param {{entries?: Entry[], more?: boolean}} answer
   */
  loaded(name, { entries = [], more = false }) {
    const found = this.conversation(name);
    for (const entry of entries) {
      if (!found.entries.has(keyOf(entry))) found.entries.set(keyOf(entry), entry);
    }
    if (entries.length) found.floor = Math.min(entries[0].pos, found.floor ?? entries[0].pos);
    else found.floor ??= 0;
    found.complete = !more;
  }

  /**
   * Takes an event; returns false if an event before it was missed, and has to be asked for.
   *
   * @param {any} event
   */
  told(event) {
    if (event.op === "presence") {
      for (const [who, online] of event.people) this.online[online ? "add" : "delete"](who);
      return true;
    }
    if (event.op === "blocked") {
      this.blocked = event.blocked;
      return true;
    }
    if (!["entry", "states", "talk"].includes(event.op)) return true;
    const { since = 0, seq = 0 } = event;
    if (since > this.cursor) return false;
    if (seq < this.cursor) return true;
    if (event.op === "entry") this.#entry(event.entry);
    else if (event.op === "talk") this.conversation(event.talk.with).talk = filled(event.talk);
    else this.#states(event);
    this.cursor = seq;
    return true;
  }

  /** @param {Entry} entry */
  #entry(entry) {
    const found = this.conversation(entry.with);
    const { talk } = found;
    if (entry.pos > talk.last) {
      const unread = talk.unread + (entry.state === undefined && entry.pos > talk.read ? 1 : 0);
      const preview = entry.text.slice(0, MAX_PREVIEW);
      found.talk = { ...talk, last: entry.pos, time: entry.time, preview, unread };
      found.floor ??= entry.pos;
    }
    const known = found.entries.get(keyOf(entry));
    if (known?.state && entry.state && RANKS[known.state] > RANKS[entry.state])
      entry = { ...entry, state: known.state };
    if (known || (found.floor !== null && entry.pos >= found.floor)) found.entries.set(keyOf(entry), entry);
  }

  /** @param {{with: string, items: [number, string][]}} event */
  #states({ with: name, items }) {
    const states = new Map(items);
    for (const [key, entry] of this.conversation(name).entries) {
      const state = states.get(entry.pos);
      if (state && entry.state && RANKS[state] > RANKS[entry.state]) {
        this.conversation(name).entries.set(key, { ...entry, state });
      }
    }
  }
}
