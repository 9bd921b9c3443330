/**
 * What both pages of the contract share: their states, their sentences, and opening the database.
 *
 * For tests and other programs that drive a page, kept stable:
 *
 * - `<body data-state="idle|offering|waiting|connecting|live|lost|refused|ended|error" data-document="ID">`;
 * - `window.contract`: `state`, `text`, `id` the document's id, `pc` the RTCPeerConnection, `database`,
 *   `start()`, `offerAgain()`, `hangUp()`;
 * - `?start=1` starts at once; `?name=N` and, for a participant, `?parent=ID` and `?audio=0` fill the form.
 */

import { Database, findConfiguration } from './firebase.js';
import { ContractCall } from './call.js';

const SENTENCES = {
  idle: '',
  offering: 'Writing the offer into the database…',
  waiting: 'The offer is in the database. Waiting for a server to answer…',
  connecting: 'Answered. Connecting…',
  live: 'Live.',
  lost: 'The connection was lost.',
  ended: 'Hung up.',
};

/** Which buttons there are in which state. */
const RUNNING = ['offering', 'waiting', 'connecting', 'live', 'lost', 'refused'];

const byId = (id) => document.getElementById(id);
const query = new URLSearchParams(location.search);
let opened = null;

/** One page: `begin` gives the request and what goes into each connection, or throws a sentence. */
export class ContractPage {
  #begin;
  #call = null;
  #state = 'idle';
  #text = '';

  /**
   * @param {() => Promise<{request: object, prepare: (pc: RTCPeerConnection) => void}>} begin
   */
  constructor(begin) {
    this.#begin = begin;
    byId('start-form').addEventListener('submit', (event) => {
      event.preventDefault();
      this.start();
    });
    byId('hang-up').addEventListener('click', () => this.hangUp());
    byId('again').addEventListener('click', () => this.offerAgain());
    window.addEventListener('pagehide', () => this.#call?.farewell());
    window.addEventListener('pageshow', (event) => event.persisted && location.reload());
    byId('name').value = query.get('name') ?? '';
    window.contract = this;
    this.#show('idle', '');
    // While the person reads the page, the SDK is loaded.
    database().catch((error) => this.#show('error', error.message));
    if (query.get('start') === '1') {
      this.start();
    }
  }

  /** Where the page is. */
  get state() {
    return this.#state;
  }

  /** What it says. */
  get text() {
    return this.#text;
  }

  /** The document's id. */
  get id() {
    return this.#call?.id ?? '';
  }

  /** The RTCPeerConnection. */
  get pc() {
    return this.#call?.pc ?? null;
  }

  /** A promise of the database. */
  get database() {
    return database();
  }

  /** Begins with a new document. */
  async start() {
    if (RUNNING.includes(this.#state)) {
      return;
    }
    this.#show('offering', '');
    try {
      const { request, prepare } = await this.#begin();
      this.#call = new ContractCall({
        database: await database(),
        request,
        prepare,
        on: (state, text) => this.#show(state, text),
      });
      await this.#call.offer();
    } catch (error) {
      this.#show('error', error.message);
    }
  }

  /** Offers again in the same document. */
  offerAgain() {
    return this.#call?.offer();
  }

  /** Hangs up. */
  hangUp() {
    return this.#call?.hangUp();
  }

  #show(state, text) {
    const sentence = asSentence(text) || SENTENCES[state] || '';
    this.#state = state;
    this.#text = sentence;
    const { body } = document;
    body.dataset.state = state;
    body.dataset.document = this.id;
    byId('status').textContent = sentence;
    byId('start').hidden = RUNNING.includes(state);
    byId('hang-up').hidden = !RUNNING.includes(state);
    byId('again').hidden = !['lost', 'refused'].includes(state);
    byId('document').textContent = this.id;
    document.dispatchEvent(new CustomEvent('contract-state', { detail: { state, id: this.id } }));
  }
}

/** What nodes and browsers say is of the form of an error: without a capital letter, without a full stop. */
function asSentence(text) {
  return text && `${text[0].toUpperCase()}${text.slice(1)}${/[.!?…]$/u.test(text) ? '' : '.'}`;
}

function database() {
  opened ??= findConfiguration().then((configuration) => Database.open(configuration));
  return opened;
}
