/**
 * Talking to the server: commands over HTTP with the session's cookie, the live numbers over server-sent events, and
 * messages over the WebSocket.
 */

import { BesterError, Client } from "../js/bester.js";

const TOKEN_KEY = "bester:token";

/** Called when the server no longer knows this session. */
export const session = { user: null, server: null, onended: () => {} };

let client = null;
let password = null;

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

/** Runs one of the operator's commands and returns its result. */
export async function command(type, args = {}) {
  return (await post("/api/command", { type, args })).data;
}

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

/** Goes on with the session that the cookie tells of, after a reload. */
export async function resume() {
  const response = await fetch("/api/session", { credentials: "same-origin" });
  const answer = await response.json();
  if (!answer.ok) throw new BesterError(answer.error.code, answer.error.message);
  session.user = answer.data.username;
}

// -- sending over the WebSocket -------------------------------------------------------------------------------------

/** Whether messages can be sent without asking for the password again, which no reload outlives. */
export function canSend() {
  return Boolean(client || password || keep(TOKEN_KEY));
}

export function givePassword(secret) {
  password = secret;
}

/** An open client of the account that is signed in. */
export async function sender() {
  if (client?.state === "open") return client;
  client?.close();
  const credentials = { username: session.user, password: password ?? undefined, token: keep(TOKEN_KEY) ?? undefined };
  try {
    client = await Client.connect(undefined, { ...credentials, features: ["route", "token"], mail: false });
  } catch (error) {
    client = null;
    if (error.code === "authenticationFailed") {
      drop(TOKEN_KEY);
      password = null;
    }
    throw error;
  }
  client.onmessage = () => {}; // answers are looked at on the page for trying things out
  if (client.token) keep(TOKEN_KEY, client.token);
  return client;
}

async function forget() {
  const old = client;
  client = null;
  password = null;
  drop(TOKEN_KEY);
  try {
    await old?.logout();
  } catch {
    old?.close(); // its token ends with its time
  }
}

function keep(key, value) {
  try {
    if (value !== undefined) sessionStorage.setItem(key, value);
    return sessionStorage.getItem(key);
  } catch {
    return null;
  }
}

function drop(key) {
  try {
    sessionStorage.removeItem(key);
  } catch {
    // Nothing was kept.
  }
}

// -- live -----------------------------------------------------------------------------------------------------------

/** Follows `/api/events`; the browser opens a lost stream again by itself. */
export function follow({ onhistory, onnow, onstate }) {
  let source;
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
