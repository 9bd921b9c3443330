/**
 * One page's part in a meeting by the contract: one document, written once, whose `answer` is read
 * once; `abort` when it is over. The page may offer again in the same document.
 */

import { decodeDescription, encodeDescription, isOver, refusalMark, requestFields } from './documents.js';

/** An offer without an answer is looked up anew so often, in case the database forgot to say it. */
export const LOOK_AGAIN_MS = 8_000;

/** A request, from its first offer to the hang-up. */
export class ContractCall {
  /** The document's id, `''` before the first offer. */
  id = '';
  /** The present RTCPeerConnection. */
  pc = null;
  #database;
  #request;
  #prepare;
  #on;
  #stopListening = () => {};
  #lastFields = null;

  /**
   * @param {{
   *   database: import('./firebase.js').Database,
   *   request: {requestor: string, kind: "broadcaster"|"participant", parent: string},
   *   prepare: (pc: RTCPeerConnection) => void,
   *   on: (state: "offering"|"waiting"|"connecting"|"live"|"lost"|"refused"|"ended", text: string) => void,
   * }} options `prepare` adds what is sent and received to each new connection
   */
  constructor({ database, request, prepare, on }) {
    this.#database = database;
    this.#request = request;
    this.#prepare = prepare;
    this.#on = on;
  }

  /** Makes a connection and offers it: in a new document the first time, in the same one after that. */
  async offer() {
    this.#stopListening();
    this.pc?.close();
    const pc = new RTCPeerConnection({ iceServers: this.#database.iceServers });
    this.pc = pc;
    this.#prepare(pc);
    this.#on('offering', '');
    pc.onconnectionstatechange = () => this.#connectionChanged(pc);
    await pc.setLocalDescription();
    // No candidates are waited for: the answer holds the server's, and its checks find this browser.
    const offer = encodeDescription(pc.localDescription);
    const seen = refusalMark(this.#lastFields);
    const uid = this.#database.uid ? { uid: this.#database.uid } : {};
    try {
      if (this.id) {
        await this.#database.update(this.id, { offer, answer: '' });
      } else {
        this.id = this.#database.newId();
        await this.#database.set(this.id, { ...requestFields({ ...this.#request, offer }), ...uid });
      }
    } catch (error) {
      this.#on('refused', `The database did not take the offer: ${error.message}`);
      return;
    }
    if (pc !== this.pc) {
      return;
    }
    this.#on('waiting', '');
    this.#listen(pc, offer, seen);
  }

  /** Hangs up. */
  async hangUp() {
    // On its way before the connection is closed, which takes its time.
    const written = this.id && this.#database.update(this.id, { abort: true }).catch(() => {});
    this.#end();
    this.#on('ended', '');
    await written;
  }

  /** Hangs up because the tab is closing. */
  farewell() {
    if (this.id && this.pc) {
      this.#database.farewell(this.id);
      this.#end();
    }
  }

  #listen(pc, offer, seen) {
    let answered = false;
    let refused = seen;
    const again = setTimeout(() => {
      this.#stopListening();
      this.#listen(pc, offer, seen);
    }, LOOK_AGAIN_MS);
    const stop = this.#database.watch(this.#database.collection, this.id, (fields) => {
      this.#lastFields = fields ?? this.#lastFields;
      if (fields?.offer !== offer || pc !== this.pc) {
        return;
      }
      if (fields.answer && !answered) {
        answered = true;
        clearTimeout(again);
        this.#accept(pc, fields.answer);
      } else if (refusalMark(fields) && refusalMark(fields) !== refused) {
        refused = refusalMark(fields);
        clearTimeout(again);
        this.#refused(fields.error);
      }
    }, (error) => {
      clearTimeout(again);
      this.#on('refused', `The database does not show the document: ${error.message}`);
    });
    this.#stopListening = () => {
      clearTimeout(again);
      stop();
    };
  }

  #refused(error) {
    if (isOver(error)) {
      this.#end();
      this.#on('ended', error);
    } else {
      this.#on('refused', error);
    }
  }

  async #accept(pc, answer) {
    this.#on('connecting', '');
    try {
      await pc.setRemoteDescription(decodeDescription(answer));
    } catch (error) {
      if (pc === this.pc) {
        this.#on('refused', error.message);
      }
    }
  }

  #connectionChanged(pc) {
    if (pc !== this.pc) {
      return;
    }
    if (pc.connectionState === 'connected') {
      this.#on('live', '');
    } else if (pc.connectionState === 'failed') {
      this.#on('lost', 'The connection was lost.');
    }
  }

  #end() {
    this.#stopListening();
    this.pc?.close();
    this.pc = null;
    this.id = '';
  }
}
