/**
 * What this person sends: camera, microphone and a shared screen, on or off, from lobby to goodbye.
 * Dispatches `change` `{source}` whenever one of them is different now, and `trouble` `{source, text}`.
 *
 * A muted microphone stays open and sends silence, so that unmuting is instant; a camera that is
 * off is closed, so that its light goes out.
 */

import { explain, openBoth, openDevice, openScreen } from './devices.js';

const SOURCES = ['camera', 'microphone'];

/** One person's own sources. */
export class OwnMedia extends EventTarget {
  /** @type {MediaStreamTrack|null} */
  camera = null;
  /** @type {MediaStreamTrack|null} */
  microphone = null;
  /** @type {MediaStreamTrack|null} */
  screen = null;
  /** @type {MediaStreamTrack|null} */
  screenAudio = null;
  /** Whether the person wants to be seen, and heard. */
  wants = { camera: true, microphone: true };
  /** Why a source that is wanted is missing. */
  errors = { camera: null, microphone: null };
  #chosen = { camera: '', microphone: '' };
  #opening = { camera: 0, microphone: 0 };

  /** Whether the microphone is open and heard. */
  get isHeard() {
    return this.microphone !== null && this.wants.microphone;
  }

  /** Opens what is wanted, with one question to the person where that is possible. */
  async open() {
    if (!this.wants.camera) {
      await this.#open('microphone');
      return;
    }
    const turns = { camera: ++this.#opening.camera, microphone: ++this.#opening.microphone };
    let both;
    try {
      both = await openBoth(this.#chosen.camera, this.#chosen.microphone);
    } catch {
      // One of them is missing: each for itself, to have the other and to know which.
      await Promise.all(SOURCES.filter((source) => turns[source] === this.#opening[source]).map((source) => this.#open(source)));
      return;
    }
    for (const source of SOURCES) {
      this.#take(source, both[source], turns[source]);
    }
  }

  /**
   * Sets which device to use; takes it at once if its source is in use.
   * @param {"camera"|"microphone"} source
   * @param {string} deviceId
   */
  async choose(source, deviceId) {
    this.#chosen[source] = deviceId;
    if (this[source]) {
      await this.#open(source);
    }
  }

  /**
   * Which device is to be used; empty for the browser's choice.
   * @param {"camera"|"microphone"} source
   * @returns {string}
   */
  chosen(source) {
    return this[source]?.getSettings().deviceId ?? this.#chosen[source];
  }

  /**
   * Camera on or off.
   * @param {boolean} on
   */
  async setCamera(on) {
    this.wants.camera = on;
    if (on) {
      await this.#open('camera');
      return;
    }
    this.#opening.camera += 1;
    this.errors.camera = null;
    this.#put('camera', null);
  }

  /**
   * Microphone on or off.
   * @param {boolean} on
   */
  async setMicrophone(on) {
    this.wants.microphone = on;
    if (this.microphone) {
      this.microphone.enabled = on;
      this.#emit('change', { source: 'microphone' });
    } else if (on) {
      await this.#open('microphone');
    } else {
      this.#emit('change', { source: 'microphone' });
    }
  }

  /** Asks for a screen and shares it. */
  async shareScreen() {
    try {
      const { video, audio } = await openScreen();
      video.addEventListener('ended', () => this.stopScreen());
      this.screen = video;
      this.screenAudio = audio;
      this.#emit('change', { source: 'screen' });
    } catch (error) {
      this.#emit('trouble', { source: 'screen', text: explain('screen', error) });
    }
  }

  /** Stops sharing. */
  stopScreen() {
    this.screen?.stop();
    this.screenAudio?.stop();
    if (this.screen) {
      this.screen = null;
      this.screenAudio = null;
      this.#emit('change', { source: 'screen' });
    }
  }

  /** Closes everything; wishes stay for the next time. */
  close() {
    this.#opening.camera += 1;
    this.#opening.microphone += 1;
    this.stopScreen();
    this.#put('camera', null);
    this.#put('microphone', null);
  }

  async #open(source) {
    const turn = ++this.#opening[source];
    try {
      this.#take(source, await openDevice(source, this.#chosen[source]), turn);
    } catch (error) {
      if (turn === this.#opening[source]) {
        this.errors[source] = error;
        this.#put(source, null);
        this.#emit('trouble', { source, text: explain(source, error) });
      }
    }
  }

  /** A device was opened; by now something else may be wanted. */
  #take(source, track, turn) {
    if (turn !== this.#opening[source]) {
      track.stop();
      return;
    }
    this.errors[source] = null;
    if (source === 'microphone') {
      track.enabled = this.wants.microphone;
    }
    track.addEventListener('ended', () => this.#onUnplugged(source, track));
    this.#put(source, track);
  }

  #onUnplugged(source, track) {
    if (this[source] !== track) {
      return;
    }
    this.#put(source, null);
    this.#emit('trouble', { source, text: `Your ${source} was disconnected.` });
    if (source === 'microphone' || this.wants.camera) {
      this.#open(source);
    }
  }

  #put(source, track) {
    const old = this[source];
    this[source] = track;
    if (old && old !== track) {
      old.stop();
    }
    this.#emit('change', { source });
  }

  #emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
