/**
 * The WebSocket to the node: joins, and when the connection breaks comes back with the resume
 * token, with growing delays, for as long as the person wants to be in the meeting.
 *
 * `on` is called with one of
 * - `{kind: "joined", message, resumed}`: in, as a new person or (resumed) as the same one;
 * - `{kind: "message", message}`: anything else that the server said;
 * - `{kind: "interrupted", attempt, delayMs}`: broken, the next try comes after the delay;
 * - `{kind: "ended", code, reason}`: over for good, nobody tries again.
 */

/** No `joined` within this time of a try counts as a broken connection. */
export const JOIN_TIMEOUT_MS = 10_000;
/** Our own close code for a connection that we gave up; 1000 and 1001 would mean goodbye. */
const CLOSE_GIVEN_UP = 4900;

/**
 * How long to wait before the next try: doubling from half a second to ten, a quarter of it by chance
 * so that a node's clients do not come back all at once.
 * @param {number} attempt from 0
 * @param {number} [random] 0 up to 1
 * @returns {number} milliseconds
 */
export function retryDelayMs(attempt, random = Math.random()) {
  const full = Math.min(500 * 2 ** Math.min(attempt, 10), 10_000);
  return Math.round(full * (0.75 + random * 0.25));
}

/**
 * What to do about a closed connection.
 * @param {number} code the close code
 * @param {boolean} resuming whether it was closed as we tried to resume
 * @returns {"retry"|"join-again"|"end"}
 */
export function afterClose(code, resuming) {
  if (code === 4006 && resuming) {
    return 'join-again';
  }
  return [4002, 4004, 4005, 4006, 4009, 4010].includes(code) ? 'end' : 'retry';
}

/** One person's place at the node, over as many WebSockets as it takes. */
export class Signal {
  /** Wishes for qualities go both ways: `prefer` to the node, `wanted` and `layer` from it. */
  carriesWishes = true;
  #url;
  #on;
  #openSocket;
  #socket = null;
  #wish = null;
  #token = null;
  #joined = false;
  #attempt = 0;
  #timer = 0;
  #lastError = '';

  /**
   * @param {{url: string, on: (event: any) => void, openSocket?: (url: string) => WebSocket}} options
   */
  constructor({ url, on, openSocket = (address) => new WebSocket(address) }) {
    this.#url = url;
    this.#on = on;
    this.#openSocket = openSocket;
  }

  /**
   * Enters a room as a new person; whoever is in one leaves it.
   * @param {string} room
   * @param {string} name
   */
  join(room, name) {
    this.#drop(1000);
    this.#wish = { room, name };
    this.#token = null;
    this.#attempt = 0;
    this.#connect();
  }

  /** Gives the present place up and enters the same room as a new person. */
  joinAgain() {
    if (this.#wish) {
      this.join(this.#wish.room, this.#wish.name);
    }
  }

  /**
   * Says something, if the connection stands.
   * @param {object} message
   * @returns {boolean} whether it was sent
   */
  send(message) {
    if (!this.#joined) {
      return false;
    }
    this.#socket.send(JSON.stringify(message));
    return true;
  }

  /** Leaves for good. */
  leave() {
    this.send({ type: 'leave' });
    this.#wish = null;
    this.#token = null;
    this.#drop(1000);
  }

  /** The network may be back: tries at once instead of waiting. */
  retryNow() {
    if (this.#wish && !this.#socket) {
      this.#connect();
    }
  }

  /** The connection is of no use though it looks open: replaces it. */
  replace() {
    if (this.#wish && this.#socket) {
      this.#drop(CLOSE_GIVEN_UP);
      this.#waitAndRetry();
    }
  }

  #connect() {
    clearTimeout(this.#timer);
    const token = this.#token;
    const first = token ? { type: 'resume', token } : { type: 'join', ...this.#wish };
    let socket;
    try {
      socket = this.#openSocket(this.#url);
    } catch {
      this.#waitAndRetry();
      return;
    }
    this.#socket = socket;
    this.#lastError = '';
    this.#timer = setTimeout(() => this.replace(), JOIN_TIMEOUT_MS);
    socket.onopen = () => socket.send(JSON.stringify(first));
    socket.onmessage = (event) => this.#hear(event.data, token !== null);
    socket.onclose = (event) => this.#closed(event, token !== null && !this.#joined);
  }

  #hear(text, resumed) {
    let message;
    try {
      message = JSON.parse(text);
    } catch {
      return;
    }
    if (message.error !== undefined && message.type === undefined) {
      this.#lastError = String(message.error);
      return;
    }
    if (message.type === 'joined') {
      clearTimeout(this.#timer);
      this.#joined = true;
      this.#attempt = 0;
      this.#token = message.token ?? this.#token;
      this.#on({ kind: 'joined', message, resumed });
      return;
    }
    if (message.type === 'closed') {
      this.#lastError = message.reason ?? '';
    }
    this.#on({ kind: 'message', message });
  }

  #closed(event, resuming) {
    this.#forget();
    const next = afterClose(event.code, resuming);
    if (next === 'end') {
      this.#wish = null;
      this.#on({ kind: 'ended', code: event.code, reason: this.#lastError || event.reason });
    } else if (next === 'join-again') {
      this.#token = null;
      this.#connect();
    } else {
      this.#waitAndRetry();
    }
  }

  #waitAndRetry() {
    const delayMs = retryDelayMs(this.#attempt);
    this.#attempt += 1;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#connect(), delayMs);
    this.#on({ kind: 'interrupted', attempt: this.#attempt, delayMs });
  }

  #drop(code) {
    const socket = this.#socket;
    this.#forget();
    if (socket) {
      socket.onopen = socket.onmessage = socket.onclose = null;
      socket.close(code);
    }
  }

  #forget() {
    clearTimeout(this.#timer);
    this.#socket = null;
    this.#joined = false;
  }
}
