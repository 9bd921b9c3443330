/** The selects for camera, microphone and speaker, in the lobby and in the meeting's dialog alike. */

import { listDevices } from './devices.js';
import { recall, remember } from './remembered.js';

const NAMES = { camera: 'Camera', microphone: 'Microphone', speaker: 'Speaker' };

/** All sets of selects on the page. */
export class DeviceFields {
  #own;
  #useSpeaker;
  #selects = { camera: [], microphone: [], speaker: [] };

  /**
   * @param {import('./own-media.js').OwnMedia} own
   * @param {(deviceId: string) => void} useSpeaker
   */
  constructor(own, useSpeaker) {
    this.#own = own;
    this.#useSpeaker = useSpeaker;
    for (const container of document.querySelectorAll('[data-device-fields]')) {
      for (const source of ['camera', 'microphone', 'speaker']) {
        container.append(this.#field(source));
      }
    }
    navigator.mediaDevices?.addEventListener?.('devicechange', () => this.refresh());
    for (const source of ['camera', 'microphone']) {
      own.choose(source, recall(source));
    }
    if (recall('speaker')) {
      useSpeaker(recall('speaker'));
    }
  }

  /** Looks which devices there are now. */
  async refresh() {
    const devices = await listDevices();
    for (const [source, selects] of Object.entries(this.#selects)) {
      const chosen = source === 'speaker' ? recall('speaker') : this.#own.chosen(source);
      for (const select of selects) {
        fill(select, devices[source], chosen, NAMES[source]);
        select.closest('label').hidden = source === 'speaker' && !canChooseSpeaker(devices);
      }
    }
  }

  #field(source) {
    const label = document.createElement('label');
    label.className = 'field';
    label.textContent = NAMES[source];
    const select = document.createElement('select');
    select.addEventListener('change', () => this.#choose(source, select.value));
    label.append(select);
    this.#selects[source].push(select);
    return label;
  }

  #choose(source, deviceId) {
    remember(source, deviceId);
    if (source === 'speaker') {
      this.#useSpeaker(deviceId);
      this.refresh();
    } else {
      this.#own.choose(source, deviceId).then(() => this.refresh());
    }
  }
}

function canChooseSpeaker(devices) {
  return devices.speaker.length > 0 && 'setSinkId' in HTMLMediaElement.prototype;
}

function fill(select, devices, chosen, name) {
  select.replaceChildren(...devices.map((device, index) => {
    const option = document.createElement('option');
    option.value = device.deviceId;
    option.textContent = device.label || `${name} ${index + 1}`;
    option.selected = device.deviceId === chosen;
    return option;
  }));
  select.disabled = devices.length === 0;
  if (devices.length === 0) {
    const option = document.createElement('option');
    option.textContent = `No ${name.toLowerCase()} found`;
    select.append(option);
  }
}
