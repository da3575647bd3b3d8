/** What is asked in dialogs: whom to talk to, which room, who is in it. */

import { ask, check, field, h } from "../ui/dom.js";
import { called, serverOf } from "./mirror.js";

const PERSON = { required: true, autocapitalize: "none", autocomplete: "off" };

/** What was typed as an address: of the own server where none is named. */
function whole(typed, talk) {
  const text = typed.trim().toLowerCase();
  return text.includes("@") ? text : `${text}@${serverOf(talk.you)}`;
}

/** Resolves with the person's address, or undefined. */
export async function newChat(talk) {
  let who;
  await ask({
    title: "New chat",
    action: "Begin",
    body: field("With", { name: "who", ...PERSON }, "user@server"),
    run: async (form) => {
      who = whole(form.elements.who.value, talk);
    },
  });
  return who;
}

/** Makes a room, or joins one; resolves with its address, or undefined. */
export async function newRoom(talk) {
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
      const typed = form.elements.room.value.trim().replace(/^#/, "");
      const name = `#${whole(typed, talk)}`;
      if (typed.includes("@")) await talk.room("join", name);
      else await talk.create(name, form.elements.topic.value, !form.elements.closed.checked);
      room = name;
    },
  });
  return room;
}

export function invite(talk, room) {
  return ask({
    title: `Invite into ${called(room, talk.you)}`,
    action: "Invite",
    body: field("Whom", { name: "who", ...PERSON }, "user@server"),
    run: (form) => talk.room("invite", room, { who: whole(form.elements.who.value, talk) }),
  });
}

export function leaveRoom(talk, room) {
  return ask({
    title: `Leave ${called(room, talk.you)}?`,
    body: "What was said stays in your history; what is said from now on does not reach you.",
    action: "Leave",
    danger: true,
    run: () => talk.room("leave", room),
  });
}

export async function members(talk, room) {
  const { online } = talk.mirror;
  const row = (one) => h("li", null, one, (online.has(one) || one === talk.you) && h("span.is-here", null, " here"));
  const rows = (await talk.members(room)).map(row);
  await ask({ title: "Members", body: h("ul.members", null, rows), action: "Close" });
}
