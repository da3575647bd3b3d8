/**
 * Talks to the server: commands over HTTP with the session's cookie, the live numbers over server-sent events, messages
 * over the WebSocket.
 */

import { BesterError, Client } from "../js/bester.js";

const TOKEN_KEY = "bester:token";

/** Who is signed in; `onended` is called when the server no longer knows the session. */
export const session = {
  /** @type {string | null} */
  user: null,
  /** @type {() => unknown} */
  onended: () => {},
};

/** @type {Client | null} */
let client = null;
/** @type {string | null} */
let password = null;

/**
 * @param {string} path
 * @param {object} body
 */
async function post(path, body) {
  let response;
  try {
    response = await fetch(path, {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-Bester": "1" },
      credentials: "same-origin",
      body: JSON.stringify(body),
    });
  } catch {
    throw new BesterError("connectionClosed", "The server cannot be reached.", { temporary: true });
  }
  let answer;
  try {
    answer = await response.json();
  } catch {
    answer = { ok: false, error: { code: "internal", message: `The server answered ${response.status}.` } };
  }
  if (response.ok && answer.ok) return answer;
  const { code = "internal", message = "no reason given", temporary = false } = answer.error ?? {};
  if (response.status === 401 && path !== "/api/login") session.onended();
  throw new BesterError(code, message, { temporary });
}

/**
 * Runs one of the operator's commands and returns its result.
 *
 * @param {string} type
 * @param {object} [args]
 * @returns {Promise<any>}
 */
export async function command(type, args = {}) {
  return (await post("/api/command", { type, args })).data;
}

/**
 * @param {string} username
 * @param {string} secret
 */
export async function login(username, secret) {
  const answer = await post("/api/login", { username, password: secret });
  await forget();
  session.user = answer.data?.username ?? username;
  password = secret;
  return answer.data;
}

export async function logout() {
  await forget();
  session.user = null;
  await post("/api/logout", {});
}

/** Continues the cookie's session, after a reload. */
export async function resume() {
  const response = await fetch("/api/session", { credentials: "same-origin" });
  const answer = await response.json();
  if (!answer.ok) throw new BesterError(answer.error.code, answer.error.message);
  session.user = answer.data.username;
}

// -- sending over the WebSocket -------------------------------------------------------------------------------------

/** Whether messages can be sent without asking for the password, which is forgotten when the page is loaded again. */
export function canSend() {
  return Boolean(client || password || kept());
}

/** @param {string} secret */
export function givePassword(secret) {
  password = secret;
}

/** Returns an open client of the account that is signed in. */
export async function sender() {
  if (client?.state === "open") return client;
  client?.close();
  const credentials = { username: session.user ?? "", password: password ?? undefined, token: kept() ?? undefined };
  try {
    client = await Client.connect(undefined, { ...credentials, features: ["route", "token"], mail: false });
  } catch (error) {
    client = null;
    if (error.code === "authenticationFailed") {
      drop();
      password = null;
    }
    throw error;
  }
  client.onmessage = () => {}; // the page for trying things out shows answers
  if (client.token) keep(client.token);
  return client;
}

async function forget() {
  const old = client;
  client = null;
  password = null;
  drop();
  try {
    await old?.logout();
  } catch {
    old?.close(); // its token ends with its time
  }
}

/** Returns the token that is kept over a reload. */
function kept() {
  try {
    return sessionStorage.getItem(TOKEN_KEY);
  } catch {
    return null;
  }
}

/** @param {string} token */
function keep(token) {
  try {
    sessionStorage.setItem(TOKEN_KEY, token);
  } catch {
    // Without a storage the password is asked for again.
  }
}

function drop() {
  try {
    sessionStorage.removeItem(TOKEN_KEY);
  } catch {
    // Nothing was kept.
  }
}

// -- live -----------------------------------------------------------------------------------------------------------

/**
 * Follows `/api/events`; the browser reopens a lost stream by itself. Returns a function that ends this.
 *
 * @param {object} options
 * @param {(event: any) => void} options.onhistory
 * @param {(event: any) => void} options.onnow
 * @param {(connected: boolean) => void} options.onstate
 */
export function follow({ onhistory, onnow, onstate }) {
  /** @type {EventSource} */
  let source;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  const open = () => {
    source = new EventSource("/api/events");
    source.onopen = () => onstate(true);
    source.onerror = () => {
      onstate(false);
      if (source.readyState === EventSource.CLOSED) timer = setTimeout(look, 2000);
    };
    source.addEventListener("history", (event) => onhistory(JSON.parse(event.data)));
    source.addEventListener("signedOut", () => session.onended());
    source.addEventListener("now", (event) => onnow(JSON.parse(event.data)));
  };
  const look = async () => {
    try {
      await command("serverInfo"); // a refusal ends the session, anything else is worth another try
    } catch {
      if (!session.user) return;
    }
    open();
  };
  open();
  return () => {
    clearTimeout(timer);
    source.close();
  };
}
