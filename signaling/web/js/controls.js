/** The bar of buttons and the keyboard. */

import { canShareScreen } from './devices.js';
import { setIcon } from './icon.js';
import { actionOf, focusOf } from './shortcuts.js';

/** Ids of buttons, and the action that each stands for. */
const BUTTONS = {
  mute: 'mute', camera: 'camera', share: 'share', leave: 'leave', 'chat-open': 'chat', 'people-open': 'people',
  'info-open': 'info', 'copy-link': 'copy-link',
};

/** Wires buttons and keys to actions. */
export class Controls {
  #own;
  #do;
  #talking = false;

  /**
   * @param {import('./own-media.js').OwnMedia} own
   * @param {(action: string) => void} perform one of `mute camera share leave chat people info help devices copy-link close`
   */
  constructor(own, perform) {
    this.#own = own;
    this.#do = perform;
    for (const [id, action] of Object.entries(BUTTONS)) {
      document.getElementById(id).addEventListener('click', (event) => {
        // After a mouse click the focus would keep the space bar from being the talk key.
        if (event.detail > 0) {
          event.currentTarget.blur();
        }
        perform(action);
      });
    }
    for (const item of document.querySelectorAll('[data-action]')) {
      item.addEventListener('click', () => perform(item.dataset.action));
    }
    document.getElementById('share').hidden = !canShareScreen();
    document.addEventListener('keydown', (event) => this.#onKeyDown(event));
    document.addEventListener('keyup', (event) => event.key === ' ' && this.#stopTalking());
    window.addEventListener('blur', () => this.#stopTalking());
  }

  /** Shows what is on and off. */
  show() {
    const own = this.#own;
    showToggle('mute', !own.isHeard, own.isHeard ? 'mic' : 'mic-off', own.isHeard ? 'Mute' : 'Unmute', 'm');
    document.querySelector('#mute .label').textContent = own.isHeard ? 'Mute' : 'Unmute';
    showToggle('camera', own.camera === null, own.camera ? 'camera' : 'camera-off', own.camera ? 'Stop camera' : 'Start camera', 'v');
    showToggle('share', false, own.screen ? 'share-off' : 'share', own.screen ? 'Stop sharing' : 'Share screen', 's');
    document.getElementById('share').dataset.active = String(own.screen !== null);
    document.getElementById('mute').dataset.talking = String(this.#talking);
  }

  #onKeyDown(event) {
    if (document.body.dataset.state !== 'in-meeting' || document.querySelector('dialog[open]')) {
      return;
    }
    const focus = focusOf(document.activeElement);
    if (event.key === ' ' && event.repeat && this.#talking) {
      event.preventDefault();
      return;
    }
    const action = actionOf(event, focus);
    if (action === 'talk') {
      event.preventDefault();
      this.#startTalking();
    } else if (action) {
      event.preventDefault();
      this.#do(action);
    }
  }

  #startTalking() {
    if (!this.#own.isHeard && this.#own.microphone) {
      this.#talking = true;
      this.#own.setMicrophone(true);
    }
  }

  #stopTalking() {
    if (this.#talking) {
      this.#talking = false;
      this.#own.setMicrophone(false);
    }
  }
}

function showToggle(id, off, icon, label, key) {
  const button = document.getElementById(id);
  button.dataset.off = String(off);
  button.setAttribute('aria-label', `${label} (${key})`);
  button.title = `${label} (${key})`;
  setIcon(button, icon);
}
