/** The lobby: who are you, which room, and how do you look. */

import { explainAll } from './devices.js';
import { setIcon } from './icon.js';
import { LevelMeter } from './level-meter.js';
import { cleanRoomName, friendlyRoomName } from './room-name.js';
import { recall, remember } from './remembered.js';

/** The lobby's form and preview. */
export class Lobby {
  #own;
  #room = document.getElementById('room');
  #name = document.getElementById('name');
  #video = document.getElementById('preview');
  #meter;

  /**
   * @param {{
   *   own: import('./own-media.js').OwnMedia,
   *   address: {room: string, name: string},
   *   onJoin: (room: string, name: string) => void,
   * }} options
   */
  constructor({ own, address, onJoin }) {
    this.#own = own;
    this.#room.value = address.room || friendlyRoomName();
    this.#name.value = address.name || recall('name');
    const bar = document.getElementById('lobby-level').firstElementChild;
    this.#meter = new LevelMeter((level) => bar.style.setProperty('--level', level.toFixed(3)));
    this.#room.addEventListener('change', () => {
      this.#room.value = cleanRoomName(this.#room.value);
    });
    document.getElementById('shuffle').addEventListener('click', () => {
      this.#room.value = friendlyRoomName();
    });
    document.getElementById('lobby-mute').addEventListener('click', () => own.setMicrophone(!own.isHeard));
    document.getElementById('lobby-camera').addEventListener('click', () => own.setCamera(own.camera === null));
    document.getElementById('lobby-form').addEventListener('submit', (event) => {
      event.preventDefault();
      this.#submit(onJoin);
    });
  }

  /** Shows the person's own sources as they are now. */
  show() {
    const { camera, errors } = this.#own;
    const inLobby = ['lobby', 'joining'].includes(document.body.dataset.state);
    const shown = inLobby ? camera : null;
    if ((this.#video.srcObject?.getTracks()[0] ?? null) !== shown) {
      this.#video.srcObject = shown ? new MediaStream([shown]) : null;
    }
    this.#video.hidden = camera === null;
    const opening = this.#own.wants.camera && !errors.camera;
    document.getElementById('preview-note').textContent = camera ? '' : opening ? 'Opening your camera…' : 'Your camera is off';
    document.getElementById('device-note').textContent = explainAll(errors);
    showToggle('lobby-mute', this.#own.isHeard, 'mic', 'Microphone');
    showToggle('lobby-camera', camera !== null, 'camera', 'Camera');
    this.#meter.watch(inLobby ? this.#own.microphone : null);
  }

  /**
   * Says why joining did not work; empty clears.
   * @param {string} text
   */
  showError(text) {
    document.getElementById('lobby-error').textContent = text;
  }

  /**
   * While joining the form waits.
   * @param {boolean} busy
   */
  setBusy(busy) {
    const button = document.getElementById('join');
    button.disabled = busy;
    button.textContent = busy ? 'Joining…' : 'Join';
  }

  #submit(onJoin) {
    const room = cleanRoomName(this.#room.value);
    if (!room) {
      this.showError('A room’s name is made of letters, digits, - and _.');
      this.#room.focus();
      return;
    }
    const name = this.#name.value.trim();
    remember('name', name);
    this.showError('');
    onJoin(room, name);
  }
}

function showToggle(id, on, icon, name) {
  const button = document.getElementById(id);
  button.dataset.off = String(!on);
  button.setAttribute('aria-pressed', String(on));
  button.title = `${name} ${on ? 'on' : 'off'}`;
  setIcon(button, on ? icon : `${icon}-off`);
}
