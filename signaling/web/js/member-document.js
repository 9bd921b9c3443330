/**
 * One person's document in the database: offers and small things to say go in, answers and refusals
 * come out. At most one write is under way, and at least a second lies between two, because a
 * document takes no more; what changes meanwhile is written together.
 */

import { decodeDescription, encodeDescription, refusalMark, requestFields } from '../contract/documents.js';
import { retryDelayMs } from './signal.js';

/** What a document takes over time is one write a second. */
export const WRITE_PAUSE_MS = 1_000;

/** A member's document, from its first offer on. */
export class MemberDocument {
  #database;
  #request;
  #hooks;
  #state = 'unwritten';
  #sources = {};
  #wants = {};
  #muted = {};
  #patch = {};
  #lines = [];
  #lineNumber = 0;
  #offer = null;
  #last = null;
  #seenMark = '';
  #writing = false;
  #restUntil = 0;
  #timer = 0;
  #failures = 0;
  #stopListening = () => {};

  /**
   * @param {import('../contract/firebase.js').Database} database
   * @param {string} id
   * @param {{requestor: string, parent: string}} request
   * @param {{
   *   onAnswer: (sdp: string) => void,
   *   onRefused: (error: string) => void,
   *   onLost: (error: string) => void,
   *   onDenied: (sentence: string) => void,
   * }} hooks `onRefused`: the present offer was not taken; `onLost`: what was answered has ended
   */
  constructor(database, id, request, hooks) {
    this.#database = database;
    this.id = id;
    this.#request = request;
    this.#hooks = hooks;
  }

  /** Whether any offer was ever answered. */
  wasAnswered = false;

  /**
   * Offers. The same offer again is answered with what is known, without another write.
   * @param {{sdp: string, sources: Record<string, string>, wants: Record<string, string>}} message
   */
  offer({ sdp, sources, wants }) {
    const text = encodeDescription({ type: 'offer', sdp });
    if (text === this.#offer?.text) {
      this.#repeat();
      return;
    }
    this.#offer = { text, outcome: null };
    this.#sources = sources;
    this.#wants = wants;
    this.#seenMark = refusalMark(this.#last);
    Object.assign(this.#patch, { offer: text, answer: '', sources, wants });
    this.#flush();
  }

  /**
   * Says that a source is muted, or not any more.
   * @param {string} source
   * @param {boolean} muted
   */
  mute(source, muted) {
    this.#muted = { ...this.#muted, [source]: muted };
    this.#patch.muted = this.#muted;
    this.#flush();
  }

  /**
   * Says something to the room. Each line has a write of its own: a document holds one.
   * @param {string} text
   */
  say(text) {
    this.#lines.push(text);
    this.#flush();
  }

  /**
   * Hangs up; nothing is written or heard after it.
   * @param {boolean} unloading whether the tab is closing
   */
  abort(unloading) {
    const written = this.#state !== 'unwritten';
    this.close();
    if (written && unloading) {
      this.#database.farewell(this.id);
    } else if (written) {
      this.#database.update(this.id, { abort: true }).catch(() => {});
    }
  }

  /** Has the database say the document anew, in case it forgot to say a change. */
  lookAgain() {
    if (this.#state === 'written') {
      this.#listen();
    }
  }

  /** Stops writing and listening. */
  close() {
    this.#state = 'closed';
    clearTimeout(this.#timer);
    this.#stopListening();
  }

  #flush() {
    const wanted = Object.keys(this.#patch).length > 0 || this.#lines.length > 0;
    if (!wanted || this.#writing || this.#state === 'closed') {
      return;
    }
    const pause = this.#restUntil - Date.now();
    if (pause > 0) {
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => this.#flush(), pause);
      return;
    }
    const whole = this.#state !== 'written';
    if (whole && !this.#patch.offer) {
      if (this.#state === 'vanished') {
        // Only an offer brings a document back, and what waits to be written comes with it.
        this.#state = 'unwritten';
        this.#hooks.onLost('the database has lost this meeting\'s document');
      }
      return;
    }
    this.#write(whole);
  }

  async #write(whole) {
    const patch = this.#patch;
    const line = this.#lines[0];
    this.#patch = {};
    const say = line === undefined ? {} : { say: { n: this.#lineNumber + 1, text: line } };
    this.#writing = true;
    try {
      await (whole ? this.#database.set(this.id, { ...this.#whole(), ...say }) : this.#database.update(this.id, { ...patch, ...say }));
    } catch (error) {
      this.#writing = false;
      this.#failed(error, patch);
      return;
    }
    this.#writing = false;
    this.#failures = 0;
    this.#restUntil = Date.now() + WRITE_PAUSE_MS;
    if (line !== undefined) {
      this.#lineNumber += 1;
      this.#lines.shift();
    }
    if (whole && this.#state !== 'closed') {
      this.#state = 'written';
      this.#listen();
    }
    this.#flush();
  }

  #whole() {
    const uid = this.#database.uid ? { uid: this.#database.uid } : {};
    return {
      ...requestFields({ ...this.#request, kind: 'member', offer: this.#offer.text }),
      sources: this.#sources,
      wants: this.#wants,
      muted: this.#muted,
      ...uid,
    };
  }

  #failed(error, patch) {
    if (this.#state === 'closed') {
      return;
    }
    if (error.code === 'permission-denied') {
      this.close();
      this.#hooks.onDenied(`the database does not let this page write: ${error.message}`);
      return;
    }
    // Newer wishes stand before those that failed.
    this.#patch = { ...patch, ...this.#patch };
    if (error.code === 'not-found') {
      this.#vanished();
    } else if (patch.offer && patch.offer === this.#offer.text) {
      delete this.#patch.offer;
      delete this.#patch.answer;
      this.#refuse(`the database did not take the offer: ${error.message}`);
    }
    this.#restUntil = Date.now() + Math.max(WRITE_PAUSE_MS, retryDelayMs(this.#failures));
    this.#failures += 1;
    this.#flush();
  }

  #listen() {
    this.#stopListening();
    const { collection } = this.#database;
    this.#stopListening = this.#database.watch(collection, this.id, (fields, sure) => this.#heard(fields, sure), (error) => {
      if (error.code === 'permission-denied') {
        this.close();
        this.#hooks.onDenied(`the database does not show this page its own document: ${error.message}`);
      } else if (this.#state !== 'closed') {
        setTimeout(() => this.#state === 'written' && this.#listen(), retryDelayMs(this.#failures));
        this.#failures += 1;
      }
    });
  }

  #heard(fields, sure) {
    if (this.#state === 'closed') {
      return;
    }
    if (fields === null) {
      if (sure) {
        this.#vanished();
      }
      return;
    }
    this.#last = fields;
    if (!this.#offer || fields.offer !== this.#offer.text) {
      return;
    }
    const mark = refusalMark(fields);
    if (mark && mark !== this.#seenMark) {
      this.#seenMark = mark;
      if (this.#offer.outcome?.answer) {
        this.#hooks.onLost(fields.error);
      } else {
        this.#refuse(fields.error);
      }
    } else if (fields.answer && !this.#offer.outcome) {
      this.#accept(fields.answer);
    }
  }

  #accept(answer) {
    try {
      const { sdp } = decodeDescription(answer);
      this.#offer.outcome = { answer: sdp };
      this.wasAnswered = true;
      this.#hooks.onAnswer(sdp);
    } catch (error) {
      this.#refuse(error.message);
    }
  }

  #refuse(error) {
    this.#offer.outcome = { error };
    this.#hooks.onRefused(error);
  }

  #repeat() {
    const { outcome } = this.#offer;
    if (outcome?.answer) {
      this.#hooks.onAnswer(outcome.answer);
    } else if (outcome) {
      this.#hooks.onRefused(outcome.error);
    }
  }

  /** The database lost the document; media that runs is not touched, the next offer writes it anew. */
  #vanished() {
    if (this.#state === 'written') {
      this.#state = 'vanished';
      this.#last = null;
      this.#stopListening();
      this.#flush();
    }
  }
}
