/**
 * A person's place in a room over a Firestore database: the same words and events as the WebSocket's
 * `Signal`, so that the page does not know which of the two it has.
 *
 * What is heard comes from two documents: the room's, which its node writes (people, who speaks,
 * chat), and one's own, in which offers are answered. The room's is read before the first offer, so
 * that the first offer already asks for everybody's tracks.
 */

import { isOver } from '../contract/documents.js';
import { MemberDocument } from './member-document.js';
import { EMPTY_ROOM, peopleWith, readRoom, roomMessages } from './room-document.js';
import { JOIN_TIMEOUT_MS, retryDelayMs } from './signal.js';

/** Media that has run this long after an answer counts as connected. */
export const SETTLED_MS = 10_000;
/** Close codes of the room protocol that the page has words for. */
const FULL = 4009;
const CLOSED = 4010;
/** No code: the sentence says it all. */
const FAILED = 0;

/** One person's place, over as many documents as it takes. */
export class FirestoreSignal {
  /** The documents have no fields for wishes: each picture is sent in one encoding. */
  carriesWishes = false;
  #open;
  #on;
  #opening = null;
  #wish = null;
  #place = null;
  #attempt = 0;

  /**
   * @param {{
   *   open: () => Promise<import('../contract/firebase.js').Database>,
   *   on: (event: any) => void,
   * }} options `on` is called as `Signal` calls it
   */
  constructor({ open, on }) {
    this.#open = open;
    this.#on = on;
  }

  /** Loads and opens the database beforehand; what fails here is said at the join. */
  prepare() {
    this.#database().catch(() => {});
  }

  /**
   * Enters a room as a new person; whoever is in one leaves it.
   * @param {string} room
   * @param {string} name
   */
  join(room, name) {
    this.#drop(false);
    this.#wish = { room, name };
    this.#attempt = 0;
    this.#enter();
  }

  /** Gives the present place up and enters the same room as a new person. */
  joinAgain() {
    if (this.#wish) {
      this.join(this.#wish.room, this.#wish.name);
    }
  }

  /**
   * Says something, once the person is in.
   * @param {any} message as in the room protocol
   * @returns {boolean} whether it was noted
   */
  send(message) {
    const place = this.#place;
    if (!place?.joined || place.silent) {
      return false;
    }
    if (message.type === 'offer') {
      place.offerId = message.id;
      place.member.offer(message);
    } else if (message.type === 'mute') {
      place.member.mute(message.source, message.muted);
    } else if (message.type === 'chat') {
      place.member.say(message.text);
    }
    return true;
  }

  /**
   * Leaves for good.
   * @param {boolean} [unloading] whether the tab is closing
   */
  leave(unloading = false) {
    this.#drop(unloading);
    this.#wish = null;
  }

  /** The network may be back: whoever waits at the door tries at once. Later the SDK minds it. */
  retryNow() {
    const place = this.#place;
    if (place && !place.joined) {
      place.database?.reconnect().catch(() => {});
    }
  }

  /**
   * An offer is without an answer: says so, and keeps waiting. The offer stands in the database, and
   * whichever node can take it will.
   */
  replace() {
    const place = this.#place;
    if (place?.joined && !place.silent) {
      place.silent = true;
      // Not the first try any more: the page is to say it.
      this.#on({ kind: 'interrupted', attempt: 2, delayMs: JOIN_TIMEOUT_MS });
      this.#lookAgain(place);
    }
  }

  /** Asks for one's own document now and then, until there is a sign of life. */
  #lookAgain(place) {
    if (place.silent) {
      place.member.lookAgain();
      this.#after(place, JOIN_TIMEOUT_MS, () => this.#lookAgain(place));
    }
  }

  #database() {
    this.#opening ??= this.#open().catch((error) => {
      this.#opening = null;
      throw error;
    });
    return this.#opening;
  }

  async #enter() {
    const place = {
      id: '', joined: false, silent: false, offerId: 0, room: EMPTY_ROOM, member: null, database: null,
      timers: new Set(), stopListening: () => {},
    };
    this.#place = place;
    this.#awaitRoom(place);
    try {
      place.database = await this.#database();
    } catch (error) {
      if (place === this.#place) {
        this.#end(FAILED, error.message);
      }
      return;
    }
    if (place === this.#place) {
      this.#listen(place);
    }
  }

  /** As long as the database says nothing about the room, the page says that it waits. */
  #awaitRoom(place) {
    this.#after(place, JOIN_TIMEOUT_MS, () => {
      if (!place.joined) {
        this.#attempt += 1;
        this.#on({ kind: 'interrupted', attempt: this.#attempt, delayMs: JOIN_TIMEOUT_MS });
        this.retryNow();
        this.#awaitRoom(place);
      }
    });
  }

  #listen(place) {
    const { database } = place;
    place.stopListening = database.watch(`${database.collection}_rooms`, this.#wish.room, (fields, sure) => {
      if (place === this.#place) {
        this.#onRoom(place, fields, sure);
      }
    }, (error) => {
      if (place === this.#place) {
        this.#onRoomError(place, error);
      }
    });
  }

  #onRoom(place, fields, sure) {
    if (!place.joined) {
      // What an unreachable database is thought to say is no answer.
      if (sure) {
        place.room = readRoom(fields);
        this.#joined(place);
      }
    } else if (fields !== null) {
      const before = place.room;
      place.room = readRoom(fields);
      roomMessages(before, place.room, place.id).forEach((message) => this.#say(message));
    }
  }

  #onRoomError(place, error) {
    if (error.code === 'permission-denied') {
      this.#end(FAILED, `the database does not show this page the room: ${error.message}`);
      return;
    }
    this.#attempt += 1;
    const delayMs = retryDelayMs(this.#attempt);
    if (!place.joined) {
      this.#on({ kind: 'interrupted', attempt: this.#attempt, delayMs });
    }
    this.#after(place, delayMs, () => this.#listen(place));
  }

  #joined(place) {
    const { database } = place;
    const { room, name } = this.#wish;
    this.#attempt = 0;
    place.id = database.newId();
    place.name = name.trim();
    place.member = new MemberDocument(database, place.id, { requestor: place.name, parent: room }, {
      onAnswer: (sdp) => this.#onAnswer(place, sdp),
      onRefused: (error) => this.#onRefused(place, error),
      onLost: (error) => this.#onLost(place, error),
      onDenied: (sentence) => place === this.#place && this.#end(FAILED, sentence),
    });
    place.joined = true;
    this.#on({ kind: 'joined', message: this.#joinedMessage(place), resumed: false });
  }

  #joinedMessage(place) {
    const { id, name, room, database } = place;
    const people = peopleWith(room, { id, name });
    return { type: 'joined', you: id, room: this.#wish.room, people, iceServers: database.iceServers };
  }

  #onAnswer(place, sdp) {
    if (place !== this.#place || this.#isBack(place)) {
      return;
    }
    this.#say({ type: 'answer', id: place.offerId, sdp });
    this.#after(place, SETTLED_MS, () => this.#say({ type: 'connected' }));
  }

  #onRefused(place, error) {
    if (place !== this.#place) {
      return;
    }
    const full = /\bfull\b/u.test(error);
    const again = /\bagain\b/u.test(error);
    if (!place.member.wasAnswered && (full || !again)) {
      // Whoever was never in is told why, and decides.
      this.#end(full ? FULL : FAILED, error);
      return;
    }
    if (this.#isBack(place)) {
      return;
    }
    const refused = { type: 'refused', id: place.offerId, error };
    if (place.member.wasAnswered && again) {
      // Nobody holds the session any more: a new connection, and only then is the old offer forgotten.
      this.#onLost(place, error);
      this.#after(place, 0, () => this.#say(refused));
    } else {
      this.#say(refused);
    }
  }

  #onLost(place, error) {
    if (place !== this.#place) {
      return;
    }
    place.timers.forEach((timer) => clearTimeout(timer));
    if (isOver(error)) {
      this.#end(CLOSED, error);
    } else {
      this.#say({ type: 'media-lost', reason: error });
    }
  }

  /** Whether this is the sign of life after a silence: then the page comes back, and asks once more. */
  #isBack(place) {
    if (!place.silent) {
      return false;
    }
    place.silent = false;
    this.#on({ kind: 'joined', message: this.#joinedMessage(place), resumed: true });
    return true;
  }

  #say(message) {
    this.#on({ kind: 'message', message });
  }

  #after(place, delayMs, what) {
    const timer = setTimeout(() => {
      place.timers.delete(timer);
      if (place === this.#place) {
        what();
      }
    }, delayMs);
    place.timers.add(timer);
  }

  #end(code, reason) {
    this.#drop(false);
    this.#wish = null;
    this.#on({ kind: 'ended', code, reason });
  }

  #drop(unloading) {
    const place = this.#place;
    this.#place = null;
    if (place) {
      place.timers.forEach((timer) => clearTimeout(timer));
      place.stopListening();
      place.member?.abort(unloading);
    }
  }
}
