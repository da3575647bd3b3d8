/** Types of bester.js; docs/javascript.md tells the rest. */

export type Json = null | boolean | number | string | Json[] | { [name: string]: Json };

/** The server's codes (docs/protocol.md, section 11), and the client's own. */
export type Code =
  | "connectFailed"
  | "connectionClosed"
  | "timeout"
  | "alreadyOpen"
  | "badId"
  | "tooLarge"
  | "slowConsumer"
  | "noReply"
  | "unsupported"
  | "badNumber"
  | (string & {});

export class BesterError extends Error {
  constructor(code: Code, message: string, more?: { temporary?: boolean; report?: Report; reason?: string });
  readonly code: Code;
  /** Whether the same can succeed later without a change. */
  readonly temporary: boolean;
  /** Where the server reported a message bad. */
  readonly report?: Report;
  /** With the code `handlerError`: the handler's own code, where it gave one; else `""`. */
  readonly reason: string;
}

export interface ReportError {
  code: string;
  message: string;
  temporary: boolean;
  /** With the code `handlerError`: the handler's own code, where it gave one. */
  reason?: string;
}

export interface Result {
  /** The username, or the server's address, as the handler wrote it. */
  to: string;
  status: "delivered" | "stored" | "sent" | "queued" | "skipped" | "failed";
  error?: ReportError;
}

/** One step of a message's way; nested where it went to another server. */
export interface Step {
  server: string;
  step: "handler" | "clients" | "server" | "mailbox" | "outbox";
  name: string;
  ms: number;
  status: string;
  route?: Step[];
}

declare class WithData<Data> {
  /** As JSON.parse makes it, which rounds numbers. */
  readonly data: Data;
  /** The JSON text of `data` as it came, in which nothing is rounded. */
  readonly raw?: string;
  /** Whether each number of `data` is the one that was sent. */
  readonly exact: boolean;
}

export class Report extends WithData<any> {
  readonly id: string;
  readonly good: boolean;
  readonly error?: ReportError;
  readonly results: Result[];
  readonly route: Step[];
  readonly payload: { [name: string]: any };
  /** Returns the report itself, or throws a BesterError with the server's code. */
  orThrow(): this;
}

export class Message<Data = any> extends WithData<Data> {
  private constructor();
  readonly type: string;
  readonly deliveryId?: string;
  /** The id of the own message that a handler replies to. */
  readonly replyTo?: string;
}

export interface Options {
  username: string;
  password?: string;
  /** From an earlier session, in place of the password. */
  token?: string;
  /** `replyTo` is always asked for. */
  features?: ("ack" | "route" | "token" | "replyTo")[];
  /** Whether to take the account's messages (true), or of which types; the others stay where they are. */
  mail?: boolean | string[];
  /** Whether a lost connection is opened again (true). */
  reconnect?: boolean;
  /** Such as `localStorage`: remembers over a reload which deliveries are done with. */
  storage?: Pick<Storage, "getItem" | "setItem">;
  /** Received messages that wait to be taken, without `ack` (10,000). */
  maxQueued?: number;
  /** Seconds, for connecting and authenticating (10). */
  connectTimeout?: number;
  WebSocket?: new (url: string) => WebSocket;
}

export interface SendOptions {
  id?: string;
  once?: boolean;
  route?: boolean;
  dryRun?: boolean;
  /** Seconds. */
  timeout?: number;
}

export type State = "connecting" | "open" | "waiting" | "closed";

export class Client implements AsyncIterable<Message> {
  constructor(url: string | undefined, options: Options);
  static connect(url: string | undefined, options: Options): Promise<Client>;
  readonly state: State;
  readonly features: string[];
  readonly server?: string;
  readonly maxMessage: number;
  token?: string;
  onmessage: ((message: Message) => unknown) | null;
  onstate: ((state: State, error?: BesterError) => void) | null;
  onerror: ((error: unknown) => void) | null;
  open(): Promise<Report>;
  close(): void;
  logout(): Promise<void>;
  send(type: string, data?: any, options?: SendOptions): Promise<Report>;
  ask<Data = any>(type: string, data?: any, options?: { timeout?: number }): Promise<Message<Data>>;
  builtin(command: string, args?: { [name: string]: any }, options?: { timeout?: number }): Promise<any>;
  ping(options?: { timeout?: number }): Promise<number>;
  receive(): Promise<Message | undefined>;
  [Symbol.asyncIterator](): AsyncGenerator<Message, void, undefined>;
}
