/**
 * The media connection: one RTCPeerConnection, always the offering side, one offer at a time.
 *
 * What should be sent (`setSource`) and received (`setWanted`) is only noted down; the next offer
 * brings the connection there. Whatever changes while an offer is under way goes into the one after it.
 */

import { Demand, applyEncodings, only } from './encodings.js';
import { IceWatch } from './ice-watch.js';
import { planReceivers } from './receivers.js';

const DESCRIPTOR_URI = 'https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension';

/** An offer without any answer for this long means that the WebSocket is dead. */
const ANSWER_TIMEOUT_MS = 8_000;

/** One person's media connection, over as many RTCPeerConnections as it takes. */
export class Session {
  /** @type {RTCCertificate|null} Made beforehand, for the next RTCPeerConnection; without one it makes its own. */
  certificate = null;
  #hooks;
  #pc = null;
  #iceServers = [];
  #sources = new Map();
  #wanted = [];
  #assigned = new Map();
  #slots = [];
  #online = false;
  #dirty = false;
  #busy = false;
  #pending = null;
  #nextId = 1;
  #refusals = 0;
  #retryTimer = 0;
  #answerTimer = 0;
  #watch = null;

  /**
   * @param {{
   *   send: (message: object) => boolean,
   *   onReceivers: (tracks: Map<string, MediaStreamTrack>) => void,
   *   onSettled: (sections: Map<string, string>) => void,
   *   onMedia: (state: "connecting"|"connected"|"lost") => void,
   *   onRefused: (reason: string) => void,
   *   onStuck: () => void,
   *   onUnanswered: () => void,
   * }} hooks `onSettled`: by the last answer these tracks are received, each with its `mid`; `onStuck`: media
   *   cannot be had on this place any more; `onUnanswered`: the server does not answer
   */
  constructor(hooks) {
    this.#hooks = hooks;
  }

  /** The present RTCPeerConnection. */
  get pc() {
    return this.#pc;
  }

  /**
   * Begins from nothing, with a new RTCPeerConnection; sources and wishes stay.
   * @param {RTCIceServer[]} [iceServers]
   */
  start(iceServers = this.#iceServers) {
    this.#iceServers = iceServers;
    this.#closeConnection();
    const pc = new RTCPeerConnection({
      bundlePolicy: 'max-bundle',
      rtcpMuxPolicy: 'require',
      iceServers,
      ...(this.certificate ? { certificates: [this.certificate] } : {}),
    });
    this.#pc = pc;
    this.#watch = new IceWatch(pc, {
      restart: () => this.restartIce(),
      canRestart: () => this.#online,
      onMedia: this.#hooks.onMedia,
      onStuck: this.#hooks.onStuck,
    });
    this.#dirty = true;
    this.#negotiate();
  }

  /** Ends it: nothing is sent or received any more. */
  close() {
    this.#closeConnection();
    this.#pending = null;
    this.#sources.clear();
    this.#wanted = [];
    this.#online = false;
    clearTimeout(this.#retryTimer);
    clearTimeout(this.#answerTimer);
  }

  /**
   * The server can be reached, or not. An offer whose answer may have been lost is said again.
   * @param {boolean} online
   */
  setOnline(online) {
    this.#online = online;
    clearTimeout(this.#answerTimer);
    if (!online) {
      return;
    }
    if (this.#pending?.pc !== this.#pc) {
      this.#pending = null;
    }
    if (this.#pending) {
      this.#pending.message.id = this.#nextId++;
      this.#sendPending();
    } else {
      this.#negotiate();
    }
    this.#tellMutes([...this.#sources.values()].filter((source) => source.published));
  }

  /**
   * What to receive.
   * @param {{id: string, kind: string}[]} tracks
   */
  setWanted(tracks) {
    this.#wanted = tracks;
    const ids = new Set(tracks.map((track) => track.id));
    const same = ids.size === this.#assigned.size && tracks.every((track) => this.#isReceived(track.id));
    if (!same) {
      this.#dirty = true;
      this.#negotiate();
    }
  }

  /**
   * What to send as `source`; `track: null` keeps its place but sends nothing.
   * @param {string} source as in the room protocol
   * @param {{
   *   kind: string, track: MediaStreamTrack|null, stream: MediaStream, muted: boolean,
   *   encodings?: import('./encodings.js').Encoding[],
   * }} wish `encodings` of a picture, the smallest first
   */
  setSource(source, wish) {
    const known = this.#sources.get(source) ?? this.#newSource(source);
    const next = Object.assign(known, wish, { active: true });
    this.#sources.set(source, next);
    if (next.transceiver) {
      next.transceiver.sender.replaceTrack(next.track).catch(() => this.#hooks.onRefused(`The ${source} cannot be sent.`));
    }
    if (next.transceiver?.direction !== 'sendonly') {
      this.#dirty = true;
      this.#negotiate();
    }
    this.setMuted(source, wish.muted);
  }

  /**
   * Stops sending a source and gives its section back.
   * @param {string} source
   */
  removeSource(source) {
    const known = this.#sources.get(source);
    if (known?.active) {
      Object.assign(known, { active: false, published: false, mutedTold: false, track: null });
      known.demand.reset();
      known.transceiver?.sender.replaceTrack(null).catch(() => {});
      this.#dirty = true;
      this.#negotiate();
    }
  }

  /**
   * Whether a source has a place in the connection, muted or not.
   * @param {string} source
   * @returns {boolean}
   */
  sends(source) {
    return this.#sources.get(source)?.active ?? false;
  }

  /**
   * Tells the others that a source is muted, as soon as they know of it.
   * @param {string} source
   * @param {boolean} muted
   */
  setMuted(source, muted) {
    const known = this.#sources.get(source);
    if (known) {
      known.muted = muted;
      if (known.published && known.mutedTold !== muted) {
        this.#tellMutes([known]);
      }
    }
  }

  /**
   * Changes how good the encodings of a source are; there are as many as before.
   * @param {string} source
   * @param {import('./encodings.js').Encoding[]} encodings
   */
  setEncodings(source, encodings) {
    const known = this.#sources.get(source);
    if (known) {
      known.encodings = encodings;
      this.#encode(known);
    }
  }

  /**
   * How good a picture of a source anybody wants: encodings above that are not sent.
   * @param {string} source
   * @param {import('./encodings.js').Most} most
   */
  setDemand(source, most) {
    this.#sources.get(source)?.demand.wish(most);
  }

  /** Looks for new paths: new ICE credentials with the next offer, which goes out as soon as it may. */
  restartIce() {
    // Before the first answer there is nothing to restart, and no description to restart from.
    if (this.#pc?.remoteDescription) {
      this.#pc.restartIce();
    }
    this.#dirty = true;
    this.#negotiate();
  }

  /**
   * What a section of the connection carries.
   * @param {string} mid
   * @returns {{source?: string, track?: string}}
   */
  describe(mid) {
    for (const { source, transceiver } of this.#sources.values()) {
      if (transceiver?.mid === mid) {
        return { source };
      }
    }
    for (const [track, slot] of this.#assigned) {
      if (slot.transceiver.mid === mid) {
        return { track };
      }
    }
    return {};
  }

  /**
   * The server's answer to an offer.
   * @param {{id: number, sdp: string}} message
   */
  async handleAnswer({ id, sdp }) {
    const pending = this.#takePending(id);
    if (!pending) {
      return;
    }
    if (pending.pc === this.#pc) {
      this.#busy = true;
      try {
        await pending.pc.setRemoteDescription({ type: 'answer', sdp });
      } catch (error) {
        if (pending.pc === this.#pc) {
          this.#busy = false;
          this.#retry(`The server's answer cannot be used: ${error.message}`);
        }
        return;
      }
      if (pending.pc !== this.#pc) {
        return;
      }
      this.#busy = false;
      this.#refusals = 0;
      this.#settle(pending);
    }
    this.#negotiate();
  }

  /**
   * The server's no to an offer.
   * @param {{id: number, error: string}} message
   */
  handleRefused({ id, error }) {
    const pending = this.#takePending(id);
    if (pending?.pc === this.#pc) {
      this.#retry(error);
    } else if (pending) {
      this.#negotiate();
    }
  }

  #newSource(source) {
    const known = { source, transceiver: null, published: false, mutedTold: false };
    known.demand = new Demand(() => this.#encode(known));
    return known;
  }

  /** Has the browser encode a source as it is planned and wanted now. */
  async #encode({ transceiver, encodings, demand }) {
    const parameters = encodings && transceiver?.sender.getParameters();
    if (parameters?.encodings?.length > 0 && applyEncodings(parameters.encodings, encodings, demand.most)) {
      // What fails because an answer came meanwhile is done again after that.
      await transceiver.sender.setParameters(parameters).catch(() => {});
    }
  }

  #isReceived(id) {
    const slot = this.#assigned.get(id);
    return slot !== undefined && !slot.idle;
  }

  #takePending(id) {
    const pending = this.#pending;
    if (pending?.message.id !== id) {
      return null;
    }
    clearTimeout(this.#answerTimer);
    this.#pending = null;
    return pending;
  }

  async #negotiate() {
    if (!this.#dirty || !this.#online || this.#busy || this.#pending || !this.#pc) {
      return;
    }
    const pc = this.#pc;
    this.#busy = true;
    // What changes together, such as camera and microphone at the start, goes into one offer.
    await null;
    if (pc !== this.#pc) {
      return;
    }
    this.#dirty = false;
    this.#bringSources(pc);
    this.#bringReceivers(pc);
    if (pc.getTransceivers().length === 0) {
      this.#busy = false;
      return;
    }
    try {
      await pc.setLocalDescription();
    } catch (error) {
      if (pc === this.#pc) {
        this.#busy = false;
        this.#retry(`This browser cannot offer media: ${error.message}`);
      }
      return;
    }
    if (pc !== this.#pc) {
      return;
    }
    this.#busy = false;
    this.#pending = { pc, message: this.#offer(pc) };
    this.#sendPending();
  }

  #bringSources(pc) {
    for (const known of this.#sources.values()) {
      const direction = known.active ? 'sendonly' : 'inactive';
      if (known.transceiver) {
        known.transceiver.direction = direction;
      } else if (known.active) {
        known.transceiver = addSender(pc, known, direction);
      }
    }
  }

  #bringReceivers(pc) {
    const { release, assign } = planReceivers(this.#wanted, this.#assigned, this.#slots);
    for (const id of release) {
      this.#assigned.get(id).transceiver.direction = 'inactive';
      this.#assigned.delete(id);
    }
    for (const { id, kind, slot } of assign) {
      const used = slot ?? { kind, idle: false, transceiver: pc.addTransceiver(kind, { direction: 'recvonly' }) };
      if (!slot) {
        takeDescriptors(used.transceiver);
        this.#slots.push(used);
      }
      used.idle = false;
      used.transceiver.direction = 'recvonly';
      this.#assigned.set(id, used);
    }
    this.#hooks.onReceivers(new Map([...this.#assigned].map(([id, slot]) => [id, slot.transceiver.receiver.track])));
  }

  #offer(pc) {
    const sources = {};
    for (const { source, transceiver, active } of this.#sources.values()) {
      if (active && transceiver?.mid) {
        sources[transceiver.mid] = source;
      }
    }
    const wants = {};
    for (const [id, slot] of this.#assigned) {
      wants[slot.transceiver.mid] = id;
    }
    return { type: 'offer', id: this.#nextId++, sdp: pc.localDescription.sdp, sources, wants };
  }

  #sendPending() {
    clearTimeout(this.#answerTimer);
    if (this.#online && this.#hooks.send(this.#pending.message)) {
      this.#answerTimer = setTimeout(() => this.#hooks.onUnanswered(), ANSWER_TIMEOUT_MS);
    }
  }

  /** Takes note of what the answer agreed to. */
  #settle({ message }) {
    this.#slots = this.#slots.filter((slot) => slot.transceiver.direction !== 'stopped');
    for (const slot of this.#slots) {
      slot.idle = slot.transceiver.currentDirection === 'inactive';
    }
    for (const [id, slot] of this.#assigned) {
      if (!this.#slots.includes(slot)) {
        this.#assigned.delete(id);
      }
    }
    const received = [...this.#assigned].filter(([, slot]) => !slot.idle);
    this.#hooks.onSettled(new Map(received.map(([id, slot]) => [id, slot.transceiver.mid])));
    this.#settleSources(message);
  }

  #settleSources(message) {
    const fresh = [];
    for (const known of this.#sources.values()) {
      if (known.transceiver?.direction === 'stopped') {
        // Refused: asking again and again would not help. The next setSource asks anew.
        Object.assign(known, { transceiver: null, active: false, published: false });
        this.#hooks.onRefused(`The server did not take the ${known.source}.`);
      } else if (known.active && !known.published && known.transceiver && message.sources[known.transceiver.mid]) {
        known.published = true;
        fresh.push(known);
      }
      this.#encode(known);
    }
    this.#tellMutes(fresh.filter((known) => known.muted));
  }

  #tellMutes(sources) {
    for (const known of sources) {
      if (this.#online && this.#hooks.send({ type: 'mute', source: known.source, muted: known.muted })) {
        known.mutedTold = known.muted;
      }
    }
  }

  /** Undoes the present offer and tries once more, later and later. */
  async #retry(reason) {
    const pc = this.#pc;
    this.#hooks.onRefused(reason);
    this.#refusals += 1;
    if (pc.signalingState === 'have-local-offer') {
      await pc.setLocalDescription({ type: 'rollback' }).catch(() => {});
    }
    clearTimeout(this.#retryTimer);
    this.#retryTimer = setTimeout(() => {
      this.#dirty = true;
      this.#negotiate();
    }, Math.min(1_000 * 2 ** this.#refusals, 30_000));
  }

  #closeConnection() {
    this.#watch?.close();
    this.#watch = null;
    this.#pc?.close();
    this.#pc = null;
    this.#busy = false;
    this.#assigned.clear();
    this.#slots = [];
    this.#hooks.onSettled(new Map());
    for (const known of this.#sources.values()) {
      Object.assign(known, { transceiver: null, published: false, mutedTold: false });
      known.demand.reset();
    }
  }
}

/** A section for a source, in as many encodings as this browser takes. */
function addSender(pc, { kind, track, stream, encodings }, direction) {
  const options = { direction, streams: [stream] };
  if (encodings?.length > 1) {
    try {
      return pc.addTransceiver(track ?? kind, { ...options, sendEncodings: encodings.map((encoding) => ({ ...encoding, active: true })) });
    } catch {
      // One encoding is better than no picture.
    }
  }
  return pc.addTransceiver(track ?? kind, { ...options, ...(encodings ? { sendEncodings: [only(encodings)] } : {}) });
}

/**
 * Asks for the header extension by which the layers of AV1 are told apart, which Chromium offers only then.
 * @param {RTCRtpTransceiver} transceiver
 */
function takeDescriptors(transceiver) {
  const extensions = transceiver.getHeaderExtensionsToNegotiate?.();
  const descriptor = extensions?.find((extension) => extension.uri === DESCRIPTOR_URI);
  if (descriptor?.direction === 'stopped') {
    descriptor.direction = 'sendrecv';
    transceiver.setHeaderExtensionsToNegotiate(extensions);
  }
}
