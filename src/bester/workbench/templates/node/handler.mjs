// A handler of the type mytype: it answers every message with the message's own data.

import { realpathSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { serve } from "./bester.mjs";

export const TYPE = process.env.BESTER_TYPE || "mytype";

// Returns what is to be done with one message. It may be async; many messages are under way at once.
//
// request.data is the data as a JavaScript value, request.raw its JSON text as it came (numbers of JavaScript have no
// more than 53 bits), request.from who sent it. Of what it throws the sender is told that there
// was an error; and why, of new Refuse("sold out", { code: "mytype.soldOut" }) of bester.mjs.
export function answer(request) {
  return { command: { type: "reply" }, raw: request.raw };
}

if (realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  serve({ types: [TYPE], answer });
}
