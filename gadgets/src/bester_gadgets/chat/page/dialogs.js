/** The dialogs: a new chat, a new room, inviting, leaving, the members. */

import { ask, check, control, field, h } from "../ui/dom.js";
import { called, serverOf } from "./mirror.js";

/** @import { Talk } from "./talk.js" */

const PERSON = { required: true, autocapitalize: "none", autocomplete: "off" };

/**
 * Returns what was typed as an address, of your own server where none is named.
 *
 * @param {string} typed
 * @param {Talk} talk
 */
function toAddress(typed, talk) {
  const text = typed.trim().toLowerCase();
  return text.includes("@") ? text : `${text}@${serverOf(talk.you)}`;
}

/**
 * Resolves with the person's address, or undefined.
 *
 * @param {Talk} talk
 */
export async function newChat(talk) {
  /** @type {string | undefined} */
  let who;
  await ask({
    title: "New chat",
    action: "Begin",
    body: field("With", { name: "who", ...PERSON }, "user@server"),
    run: async (form) => {
      who = toAddress(control(form, "who").value, talk);
    },
  });
  return who;
}

/**
 * Makes a room, or joins one; resolves with its address, or undefined.
 *
 * @param {Talk} talk
 */
export async function newRoom(talk) {
  /** @type {string | undefined} */
  let room;
  await ask({
    title: "Make a room, or join one",
    action: "Go",
    body: [
      field(
        "Room",
        { name: "room", ...PERSON },
        "A name makes a room on your server; name@server joins one that is there.",
      ),
      field("Topic of a new room", { name: "topic", maxlength: 200 }),
      check("Only those who are invited", { name: "closed" }),
    ],
    run: async (form) => {
      const typed = control(form, "room").value.trim().replace(/^#/, "");
      const name = `#${toAddress(typed, talk)}`;
      if (typed.includes("@")) await talk.room("join", name);
      else await talk.create(name, control(form, "topic").value, !control(form, "closed").checked);
      room = name;
    },
  });
  return room;
}

/**
 * @param {Talk} talk
 * @param {string} room
 */
export function invite(talk, room) {
  return ask({
    title: `Invite into ${called(room, talk.you)}`,
    action: "Invite",
    body: field("Whom", { name: "who", ...PERSON }, "user@server"),
    run: (form) => talk.room("invite", room, { who: toAddress(control(form, "who").value, talk) }),
  });
}

/**
 * @param {Talk} talk
 * @param {string} room
 */
export function leaveRoom(talk, room) {
  return ask({
    title: `Leave ${called(room, talk.you)}?`,
    body: "What was said stays in your history; what is said from now on does not reach you.",
    action: "Leave",
    danger: true,
    run: () => talk.room("leave", room),
  });
}

/**
 * @param {Talk} talk
 * @param {string} room
 */
export async function members(talk, room) {
  const { online } = talk.mirror;
  const row = (/** @type {string} */ one) =>
    h("li", null, one, (online.has(one) || one === talk.you) && h("span.is-here", null, " here"));
  const rows = (await talk.members(room)).map(row);
  await ask({ title: "Members", body: h("ul.members", null, rows), action: "Close" });
}
