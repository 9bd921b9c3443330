/**
 * A meeting without its looks: the connection to the server, the media connection and what is known of the room,
 * tied together. The page listens to its events:
 *
 * - `change` `{before, message}`: the state changed by this message;
 * - `receivers` `{tracks: Map<track id, MediaStreamTrack>}`: what is received;
 * - `publish`: the media connection is new; what this person sends has to be set again;
 * - `joined` `{resumed}`, `interrupted` `{attempt}`, `ended` `{code, reason}`: the connection to the server;
 * - `media` `{state}`: `connecting`, `connected` or `lost`;
 * - `notice` `{text}`: a sentence for the person.
 */

import { EMPTY, reduce, wantedTracks } from './meeting-state.js';
import { Session } from './session.js';
import { Wishes } from './wishes.js';

/** Media that ends by the server's word this often in a row means joining again helps more. */
const MEDIA_LOST_MAX = 4;

/** One person's part in one meeting. */
export class Call extends EventTarget {
  #signal;
  #session;
  #wishes = null;
  #state = EMPTY;
  #mediaLost = 0;
  #mediaTimer = 0;
  #wanted;

  /**
   * @param {(on: (event: any) => void) => Signal|FirestoreSignal} connect makes the connection to the server
   * @param {(state: import('./meeting-state.js').MeetingState) => {id: string, kind: string}[]} [wanted] what to receive
   */
  constructor(connect, wanted = wantedTracks) {
    super();
    this.#wanted = wanted;
    this.#signal = connect((event) => this.#heard(event));
    if (this.#signal.carriesWishes) {
      this.#wishes = new Wishes((message) => this.#signal.send(message));
    }
    this.#session = new Session({
      send: (message) => this.#signal.send(message),
      onReceivers: (tracks) => this.#emit('receivers', { tracks }),
      onSettled: (sections) => this.#wishes?.setReceived(sections),
      onMedia: (state) => this.#emit('media', { state }),
      onRefused: (text) => this.#emit('notice', { text }),
      onStuck: () => this.#signal.joinAgain(),
      onUnanswered: () => this.#signal.replace(),
    });
  }

  /** What is known of the meeting. */
  get state() {
    return this.#state;
  }

  /** The media connection. */
  get session() {
    return this.#session;
  }

  /** How good the pictures that are received should be; `null` where the server hears no wishes. */
  get wishes() {
    return this.#wishes;
  }

  /** Gets ready to join, while the person still looks at the lobby. */
  prepare() {
    this.#signal.prepare?.();
  }

  /**
   * Enters a room.
   * @param {string} room
   * @param {string} name
   */
  join(room, name) {
    this.#signal.join(room, name);
  }

  /**
   * Leaves for good.
   * @param {boolean} [unloading] whether the tab is closing
   */
  leave(unloading = false) {
    this.#signal.leave(unloading);
    this.#end();
  }

  /**
   * Says something to everybody.
   * @param {string} text
   * @returns {boolean} whether it was sent
   */
  chat(text) {
    return this.#signal.send({ type: 'chat', text });
  }

  /** The network changed: looks for new paths, and for the server if it was lost. */
  networkChanged() {
    this.#signal.retryNow();
    this.#session.restartIce();
  }

  #heard(event) {
    if (event.kind === 'joined') {
      this.#onJoined(event);
    } else if (event.kind === 'message') {
      this.#onMessage(event.message);
    } else if (event.kind === 'interrupted') {
      this.#session.setOnline(false);
      this.#emit('interrupted', { attempt: event.attempt });
    } else {
      this.#end();
      this.#emit('ended', { code: event.code, reason: event.reason });
    }
  }

  #onJoined({ message, resumed }) {
    const before = this.#state;
    this.#state = reduce(before, message);
    if (!resumed) {
      // A new person at the server has no media there: nothing of the old connection is worth keeping.
      this.#session.start(message.iceServers ?? []);
      this.#emit('publish', {});
    } else {
      this.#wishes?.repeat();
    }
    this.#session.setWanted(this.#wanted(this.#state));
    this.#session.setOnline(true);
    // The offer is made first, so that the browser works on it while the page is drawn.
    queueMicrotask(() => {
      // It may be over by now.
      if (this.#state.you === message.you) {
        this.#emit('change', { before, message });
        this.#emit('joined', { resumed });
      }
    });
  }

  #onMessage(message) {
    switch (message.type) {
      case 'answer':
        this.#session.handleAnswer(message);
        break;
      case 'refused':
        this.#session.handleRefused(message);
        break;
      case 'wanted':
        this.#session.setDemand(message.source, message.most);
        break;
      case 'connected':
        this.#mediaLost = 0;
        break;
      case 'media-lost':
        this.#reduce(message);
        this.#onMediaLost();
        break;
      case 'person-joined':
      case 'person-left':
      case 'tracks':
        this.#reduce(message);
        this.#session.setWanted(this.#wanted(this.#state));
        break;
      default:
        this.#reduce(message);
    }
  }

  #onMediaLost() {
    this.#mediaLost += 1;
    this.#emit('media', { state: 'lost' });
    if (this.#mediaLost > MEDIA_LOST_MAX) {
      this.#mediaLost = 0;
      this.#signal.joinAgain();
      return;
    }
    clearTimeout(this.#mediaTimer);
    const delay = this.#mediaLost === 1 ? 0 : 500 * 2 ** this.#mediaLost;
    this.#mediaTimer = setTimeout(() => this.#session.start(), delay);
  }

  #reduce(message) {
    const before = this.#state;
    this.#state = reduce(before, message);
    this.#emit('change', { before, message });
  }

  #end() {
    clearTimeout(this.#mediaTimer);
    this.#session.close();
    this.#wishes?.clear();
    this.#state = EMPTY;
  }

  #emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
