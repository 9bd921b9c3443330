/** Watches one connection's ICE and asks for a restart when its paths are gone. */

/** A path that is silent for this long is worth a restart; shorter gaps heal by themselves. */
const DISCONNECTED_MS = 2_000;
/** A restart has this long to work before the next one; doubled each time. */
const RESTART_MS = 4_000;
/** No pause between restarts is longer. */
const RESTART_MS_MAX = 16_000;
/** After this many restarts in a row that did not help, the place is given up. */
const RESTARTS_MAX = 5;

/** The watch over one RTCPeerConnection. */
export class IceWatch {
  #pc;
  #hooks;
  #timer = 0;
  #restarts = 0;
  #listener = () => this.#look();

  /**
   * @param {RTCPeerConnection} pc
   * @param {{restart: () => void, canRestart: () => boolean, onMedia: (state: string) => void, onStuck: () => void}} hooks
   */
  constructor(pc, hooks) {
    this.#pc = pc;
    this.#hooks = hooks;
    pc.addEventListener('iceconnectionstatechange', this.#listener);
    pc.addEventListener('connectionstatechange', this.#listener);
  }

  /** Stops watching. */
  close() {
    clearTimeout(this.#timer);
    this.#pc.removeEventListener('iceconnectionstatechange', this.#listener);
    this.#pc.removeEventListener('connectionstatechange', this.#listener);
  }

  #look() {
    const ice = this.#pc.iceConnectionState;
    if (this.#pc.connectionState === 'connected' || ((ice === 'connected' || ice === 'completed') && this.#pc.connectionState !== 'failed')) {
      clearTimeout(this.#timer);
      this.#timer = 0;
      this.#restarts = 0;
      this.#hooks.onMedia(this.#pc.connectionState === 'connected' ? 'connected' : 'connecting');
    } else if (ice === 'failed' || this.#pc.connectionState === 'failed') {
      this.#hooks.onMedia('lost');
      this.#after(this.#restarts === 0 ? 0 : RESTART_MS);
    } else if (ice === 'disconnected') {
      this.#hooks.onMedia('lost');
      this.#after(DISCONNECTED_MS);
    }
  }

  #after(delay) {
    if (this.#timer === 0) {
      this.#timer = setTimeout(() => this.#restart(), delay);
    }
  }

  #restart() {
    this.#timer = 0;
    if (this.#restarts >= RESTARTS_MAX) {
      this.#hooks.onStuck();
      return;
    }
    if (this.#hooks.canRestart()) {
      this.#hooks.restart();
      this.#restarts += 1;
    }
    this.#after(Math.min(RESTART_MS * 2 ** Math.max(0, this.#restarts - 1), RESTART_MS_MAX));
  }
}
