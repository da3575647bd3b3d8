// Finds the text of a member in JSON that JSON.parse has taken already. To pass a text on is quicker than to write the
// value anew, and loses nothing: JSON.parse rounds large numbers.

// The text of an object's member as it stands there, or undefined; of a repeated key that of the last.
export function member(text, name) {
  let depth = 0;
  let isKey = false;
  let key;
  let start = 0;
  let found;
  for (let at = 0; at < text.length; at++) {
    const char = text[at];
    if (char === '"') {
      const end = endOfString(text, at);
      if (depth === 1 && isKey) key = JSON.parse(text.slice(at, end));
      at = end - 1;
    } else if (char === "{" || char === "[") {
      depth++;
      if (depth === 1) isKey = true;
    } else if (depth === 1 && char === ":" && isKey) {
      isKey = false;
      start = at + 1;
    } else if (char === "}" || char === "]" || char === ",") {
      if (depth === 1 && !isKey) {
        if (key === name) found = text.slice(start, at).trim();
        isKey = true;
      }
      if (char !== ",") depth--;
    }
  }
  return found;
}

// The index after the string that begins here.
function endOfString(text, at) {
  for (let end = at; ; ) {
    end = text.indexOf('"', end + 1);
    if (end < 0) return text.length;
    let backslashes = 0;
    while (text[end - 1 - backslashes] === "\\") backslashes++;
    if (backslashes % 2 === 0) return end + 1;
  }
}
