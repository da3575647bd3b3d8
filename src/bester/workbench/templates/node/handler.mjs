// A handler of the type mytype: it answers every message with the message's own data.

import { realpathSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { Refuse, serve } from "./bester.mjs";

export const TYPE = process.env.BESTER_TYPE || "mytype";

// What people and programs are told of the type: bester handler describe mytype. JSON Schemas of its data can be in it,
// too, as request and answer (docs/protocol.md, section 6.9).
const description = {
  description: "Answers with the message's own data.",
  version: "1",
  samples: [{ to: "t", text: "Hello" }],
};

// Returns what is to be done with one message. It may be async; many messages are under way at once.
//
// request.data is the data as a JavaScript value, request.raw its JSON text as it came (numbers of JavaScript have no
// more than 53 bits), request.from who sent it. Of what it throws the sender is told that there was an error; of a Refuse
// it is told why, too.
export function answer(request) {
  if (request.scope === "server") throw new Refuse("other servers are not answered", { code: "mytype.noServers" });
  return { command: { type: "reply" }, raw: request.raw };
}

if (realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  serve({ types: [TYPE], describe: { [TYPE]: description }, answer });
}
