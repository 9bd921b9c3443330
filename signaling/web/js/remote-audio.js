/** The sound of the others: audio elements apart from the pictures, so that no layout silences anybody. */

/** What is heard. */
export class RemoteAudio {
  #container;
  #players = new Map();
  #sinkId = '';
  #onBlocked;

  /**
   * @param {HTMLElement} container
   * @param {(blocked: boolean) => void} onBlocked the browser wants a click before it plays anything, or had it
   */
  constructor(container, onBlocked) {
    this.#container = container;
    this.#onBlocked = onBlocked;
  }

  /**
   * Plays these and nothing else.
   * @param {{id: string, person: string, source: string, track: MediaStreamTrack}[]} sounds
   */
  play(sounds) {
    const ids = new Set(sounds.map((sound) => sound.id));
    for (const [id, player] of this.#players) {
      if (!ids.has(id)) {
        player.srcObject = null;
        player.remove();
        this.#players.delete(id);
      }
    }
    for (const sound of sounds) {
      this.#playOne(sound);
    }
  }

  /**
   * Plays through another speaker, where the browser can.
   * @param {string} deviceId
   */
  useSpeaker(deviceId) {
    this.#sinkId = deviceId;
    for (const player of this.#players.values()) {
      player.setSinkId?.(deviceId).catch(() => {});
    }
  }

  /** After the person's click: starts what the browser had blocked. */
  async unblock() {
    const tries = await Promise.allSettled([...this.#players.values()].map((player) => player.play()));
    this.#onBlocked(tries.some((result) => result.status === 'rejected'));
  }

  #playOne({ id, person, source, track }) {
    let player = this.#players.get(id);
    if (player?.srcObject?.getTracks()[0] === track) {
      return;
    }
    if (!player) {
      player = document.createElement('audio');
      player.autoplay = true;
      player.dataset.person = person;
      player.dataset.source = source;
      this.#container.append(player);
      this.#players.set(id, player);
      if (this.#sinkId) {
        player.setSinkId?.(this.#sinkId).catch(() => {});
      }
    }
    player.srcObject = new MediaStream([track]);
    player.play().catch((error) => {
      if (error.name === 'NotAllowedError') {
        this.#onBlocked(true);
      }
    });
  }
}
