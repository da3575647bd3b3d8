/**
 * Bester for browsers and Node: one account's session on a server, over a WebSocket.
 *
 *   const client = await Client.connect("wss://example.org/ws", { username: "t", password: "secret" });
 *   const report = await client.send("chat", { text: "hello" }, { once: true });
 *   for await (const message of client) console.log(message.type, message.data);
 *
 * The client reopens a lost connection by itself. It then sends `once` messages again with the same id, which the
 * server recognises, until each has a report; any other message without a report fails with `connectionClosed`, and
 * its sender decides. The client acknowledges a received message when the application is done with it, and hands it
 * over once although the server may deliver it twice.
 *
 * bester.js is one file, so that a site can copy it from a server's `/bester.js` and need nothing beside it.
 *
 * The types below are the source of bester.d.ts, which `make types` writes.
 *
 * @module
 */
export type Json = null | boolean | number | string | Json[] | {
    [name: string]: Json;
};
export type Code = "connectFailed" | "connectionClosed" | "timeout" | "alreadyOpen" | "badId" | "tooLarge" | "slowConsumer" | "noReply" | "unsupported" | "badNumber" | (string & {});
export type ReportError = {
    code: string;
    message: string;
    /**
     * whether the same message can succeed later
     */
    temporary: boolean;
    /**
     * with the code `handlerError`: the handler's own code, where it gave one
     */
    reason?: string;
};
export type Result = {
    /**
     * the username, or the server's address, as the handler wrote it
     */
    to: string;
    status: "delivered" | "stored" | "sent" | "queued" | "skipped" | "held" | "failed";
    error?: ReportError;
};
export type Step = {
    server: string;
    step: "guard" | "handler" | "clients" | "server" | "mailbox" | "outbox";
    name: string;
    ms: number;
    status: string;
    /**
     * how many parts a handler has sent
     */
    parts?: number;
    route?: Step[];
};
export type Options = {
    username: string;
    password?: string;
    /**
     * an earlier session's `token`, in place of the password
     */
    token?: string;
    /**
     * what to ask of the server (`ack`, `route`,
     * `token`); `replyTo` and `parts` are always asked for
     */
    features?: ("ack" | "route" | "token" | "replyTo" | "parts")[];
    /**
     * whether to take the account's messages (true), or messages of which types; the
     * others stay where they are. A program that only sends and asks gives false, and is sent nothing but replies.
     */
    mail?: boolean | string[];
    /**
     * whether the client reopens a lost connection (true)
     */
    reconnect?: boolean;
    /**
     * such as `localStorage`: remembers over a reload which
     * deliveries the application is done with
     */
    storage?: Pick<Storage, "getItem" | "setItem">;
    /**
     * how many received messages may wait to be taken, without `ack` (10,000)
     */
    maxQueued?: number;
    /**
     * seconds, for connecting and authenticating (10)
     */
    connectTimeout?: number;
    /**
     * another implementation
     */
    WebSocket?: new (url: string) => WebSocket;
};
export type SendOptions = {
    /**
     * an id of your own, different from those that have no report yet
     */
    id?: string;
    /**
     * send again over reconnections until there is a report; never handled twice
     */
    once?: boolean;
    /**
     * the report tells the route that the message took
     */
    route?: boolean;
    /**
     * deliver nothing; the report tells the route that the message would take
     */
    dryRun?: boolean;
    /**
     * seconds; after them the message is cancelled, and it is not known what became of it
     */
    timeout?: number;
    /**
     * cancels the message; the promise then rejects with the signal's reason
     */
    signal?: AbortSignal;
};
export type HeldSender = {
    user: string;
} | {
    server: string | null;
};
export type Chosen = {
    ids: number[];
} | HeldSender;
export type Held = {
    id: number;
    type: string;
    from: HeldSender;
    messageId: string;
    guard: string;
    hops: number;
    /**
     * seconds since 1970
     */
    created: number;
    bytes: number;
    data: string;
    cut: boolean;
};
export type State = "connecting" | "open" | "waiting" | "closed";
/** Every error of the client. `code` is the server's, or one of the client's own, which docs/javascript.md lists. */
export declare class BesterError extends Error {
    /** @readonly @type {Code} */
    readonly code: Code;
    /**
     * Whether the same can succeed later without a change.
     *
     * @readonly
     * @type {boolean}
     */
    readonly temporary: boolean;
    /**
     * Where the server reported a message bad.
     *
     * @readonly
     * @type {Report | undefined}
     */
    readonly report: Report | undefined;
    /**
     * With the code `handlerError`: the handler's own code, where it gave one; else `""`.
     *
     * @readonly
     * @type {string}
     */
    readonly reason: string;
    /**
     * @param {Code} code stable, for programs
     * @param {string} message for people
     * @param {{temporary?: boolean, report?: Report, reason?: string}} [more]
     */
    constructor(code: Code, message: string, { temporary, report, reason }?: {
        temporary?: boolean;
        report?: Report;
        reason?: string;
    });
}
/**
 * Holds the `data` of a frame: the value as JSON.parse makes it, and its text.
 *
 * @template [Data=any]
 */
declare class WithData<Data = any> {
    #private;
    /**
     * As JSON.parse makes it, which rounds numbers.
     *
     * @readonly
     * @type {Data}
     */
    readonly data: Data;
    /**
     * @param {Data} data
     * @param {string} [text] the frame
     */
    constructor(data: Data, text?: string);
    /** The JSON text of `data` as it came, in which nothing is rounded; undefined where there was none. */
    get raw(): string | undefined;
    /** Whether each number of `data` equals the number that was sent; beyond 2^53 or 1.8e308 it may not. See `raw`. */
    get exact(): boolean;
}
/**
 * A message that a handler sent to this client.
 *
 * @template [Data=any]
 * @extends {WithData<Data>}
 */
export declare class Message<Data = any> extends WithData<Data> {
    /** @readonly @type {string} */
    readonly type: string;
    /** @readonly @type {string | undefined} */
    readonly deliveryId: string | undefined;
    /**
     * The id of your own message that a handler replies to.
     *
     * @readonly
     * @type {string | undefined}
     */
    readonly replyTo: string | undefined;
    /**
     * @param {{type: string, data?: any, deliveryId?: string, replyTo?: string}} payload
     * @param {string} text the frame
     */
    constructor({ type, data, deliveryId, replyTo }: {
        type: string;
        data?: any;
        deliveryId?: string;
        replyTo?: string;
    }, text: string);
}
/** The server's status report on one message. */
export declare class Report extends WithData {
    /** @readonly @type {string} */
    readonly id: string;
    /**
     * Whether every recipient has the message, or it is on disk at a server that goes on trying.
     *
     * @readonly
     * @type {boolean}
     */
    readonly good: boolean;
    /** @readonly @type {ReportError | undefined} */
    readonly error: ReportError | undefined;
    /** @readonly @type {Result[]} */
    readonly results: Result[];
    /** @readonly @type {Step[]} */
    readonly route: Step[];
    /** @readonly @type {{[name: string]: any}} */
    readonly payload: {
        [name: string]: any;
    };
    /**
     * @param {{header?: any, payload?: any}} frame a status report as it came
     * @param {string} [text] its JSON
     */
    constructor({ header, payload }: {
        header?: any;
        payload?: any;
    }, text?: string);
    /** Returns the report if it is good, and throws a BesterError with the server's code if it is bad. */
    orThrow(): this;
}
/** @implements {AsyncIterable<Message>} */
export declare class Client implements AsyncIterable<Message> {
    #private;
    /**
     * With the feature `token`: stands in for the password. Keep it secret.
     *
     * @type {string | undefined}
     */
    token: string | undefined;
    /**
     * Called with each new state, and the error that led there.
     *
     * @type {((state: State, error?: BesterError) => void) | null}
     */
    onstate: ((state: State, error?: BesterError) => void) | null;
    /**
     * Called with what `onmessage` threw; the message is delivered again later.
     *
     * @type {((error: unknown) => void) | null}
     */
    onerror: ((error: unknown) => void) | null;
    /**
     * @param {string | undefined} url `ws:` or `wss:`; in a browser, where it is undefined, `/ws` of the page's server
     * @param {Options} options
     */
    constructor(url: string | undefined, options: Options);
    /**
     * Returns an open client; the arguments are those of the class.
     *
     * @param {string | undefined} url
     * @param {Options} options
     */
    static connect(url: string | undefined, options: Options): Promise<Client>;
    get state(): State;
    /** The features that the server granted. */
    get features(): string[];
    /** The server's name, if it told. */
    get server(): string | undefined;
    /** The largest message in bytes that the server takes. */
    get maxMessage(): number;
    /**
     * Connects and authenticates. Rejects where the server cannot be reached or does not admit this account; only after
     * a first success does the client reopen a lost connection.
     *
     * @returns {Promise<Report>}
     */
    open(): Promise<Report>;
    /**
     * Ends the connection and does not reopen it; messages without a report fail. Messages that were handed over count as
     * done with.
     */
    close(): void;
    /**
     * Sends a message and resolves with the report on it, good or bad.
     *
     * @param {string} type names the handler
     * @param {any} [data] any JSON value
     * @param {SendOptions} [options]
     * @returns {Promise<Report>}
     */
    send(type: string, data?: any, { id, once, route, dryRun, timeout, signal }?: SendOptions): Promise<Report>;
    /**
     * Sends a message and resolves with a handler's reply; any number at once. The first reply counts, even if something
     * else that the message caused fails; it does not come out of `receive`. Further replies, and a reply after the
     * timeout, are dropped.
     *
     * Without a reply it rejects: with the server's code where the message is reported bad, or with `noReply`.
     *
     * @template [Data=any]
     * @param {string} type names the handler
     * @param {any} [data] any JSON value
     * @param {Pick<SendOptions, "timeout" | "signal">} [options]
     * @returns {Promise<Message<Data>>}
     */
    ask<Data = any>(type: string, data?: any, { timeout, signal }?: Pick<SendOptions, "timeout" | "signal">): Promise<Message<Data>>;
    /**
     * Sends a message and yields the parts of a handler's answer as they come; any number at once. It ends with the
     * report, which is its return value, and throws after the parts that came if that is bad. Leaving the loop early
     * cancels the message. A handler or a server that does not know parts sends all replies at the end.
     *
     * The message is sent when the first part is asked for, and never twice.
     *
     * @template [Data=any]
     * @param {string} type names the handler
     * @param {any} [data] any JSON value
     * @param {{window?: number, timeout?: number, route?: boolean, signal?: AbortSignal}} [options] `window`: how many parts
     *   may be under way or wait to be taken (64), from 1 to 65,536; `timeout`: seconds that each part may take; `route`:
     *   as of `send`; `signal`: cancels the message, and the loop then throws the signal's reason
     * @returns {AsyncGenerator<Message<Data>, Report, undefined>}
     */
    stream<Data = any>(type: string, data?: any, { window, timeout, route, signal }?: {
        window?: number;
        timeout?: number;
        route?: boolean;
        signal?: AbortSignal;
    }): AsyncGenerator<Message<Data>, Report, undefined>;
    /**
     * Asks the server to cancel a message that has no report yet; its report still comes: bad, with the code `cancelled`,
     * unless the handler has done its work. Returns whether the server was asked.
     *
     * @param {string} id
     */
    cancel(id: string): boolean;
    /**
     * Runs a built-in command and resolves with its result; rejects with the server's code.
     *
     * @param {string} command
     * @param {{[name: string]: any}} [args]
     * @param {{timeout?: number}} [options] seconds
     * @returns {Promise<any>}
     */
    builtin(command: string, args?: {
        [name: string]: any;
    }, { timeout }?: {
        timeout?: number;
    }): Promise<any>;
    /**
     * What guards hold until the account consents to it (docs/protocol.md, section 3.8). `list` resolves with what is
     * held, oldest first, and whom the account trusts; the others take messages by their ids, or all of one sender, and
     * resolve with the number of messages. `release` consents, with `always` also to what the sender will send; `refuse`
     * removes, and the sender is no longer trusted.
     */
    held: Readonly<{
        list: (/** @type {{after?: number, limit?: number}} */ args?: {
            after?: number;
            limit?: number;
        }) => Promise<{
            held: Held[];
            trusted: HeldSender[];
        }>;
        release: (/** @type {Chosen & {always?: boolean}} */ args: Chosen & {
            always?: boolean;
        }) => Promise<number>;
        refuse: (/** @type {Chosen} */ args: Chosen) => Promise<number>;
    }>;
    /**
     * Asks whether the server is there; resolves with the seconds that the answer took.
     *
     * @param {{timeout?: number}} [options] seconds
     */
    ping({ timeout }?: {
        timeout?: number;
    }): Promise<number>;
    /** Ends the session with its token, and the connection. */
    logout(): Promise<void>;
    /**
     * Called with each received message. The message is acknowledged when the function's promise has resolved; if the
     * function throws or rejects, the message is not acknowledged, and is delivered again later.
     */
    get onmessage(): ((message: Message) => unknown) | null;
    set onmessage(callback: ((message: Message) => unknown) | null);
    /**
     * Resolves with the next message, and acknowledges the one before; with undefined when the client was closed and all
     * messages are taken. There must be one reader, and no `onmessage`.
     *
     * @returns {Promise<Message | undefined>}
     */
    receive(): Promise<Message | undefined>;
    /** @returns {AsyncGenerator<Message, void, undefined>} */
    [Symbol.asyncIterator](): AsyncGenerator<Message, void, undefined>;
}
export {};
