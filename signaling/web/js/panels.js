/** The side panels, the menu and the dialogs: at most one panel is open. */

const PANELS = ['chat', 'people', 'info'];

/** Opens and closes them. */
export class Panels {
  #open = '';
  #onToggle;

  /** @param {(panel: string, open: boolean) => void} onToggle */
  constructor(onToggle) {
    this.#onToggle = onToggle;
    for (const name of PANELS) {
      document.querySelector(`#${name}-panel [data-close]`).addEventListener('click', () => this.close(true));
    }
    for (const dialog of document.querySelectorAll('dialog')) {
      dialog.querySelector('[data-close]').addEventListener('click', () => dialog.close());
      // A click on the backdrop is a click on the dialog itself, outside everything in it.
      dialog.addEventListener('click', (event) => event.target === dialog && dialog.close());
    }
    const menu = document.getElementById('more-menu');
    document.getElementById('more').addEventListener('click', () => this.#setMenu(menu.hidden));
    document.addEventListener('click', (event) => {
      if (!event.target.closest('.more') || event.target.closest('#more-menu')) {
        this.#setMenu(false);
      }
    });
  }

  /**
   * Opens a panel, or closes it when it is open.
   * @param {"chat"|"people"|"info"} name
   */
  toggle(name) {
    const opening = this.#open !== name;
    this.close();
    if (opening) {
      this.#open = name;
      this.#set(name, true);
    }
  }

  /**
   * Closes whatever is open.
   * @param {boolean} [giveFocusBack] to the button that opened it
   * @returns {boolean} whether anything was
   */
  close(giveFocusBack = false) {
    const menuWasOpen = this.#setMenu(false);
    const name = this.#open;
    if (name) {
      this.#open = '';
      this.#set(name, false);
      if (giveFocusBack) {
        document.getElementById(`${name}-open`).focus();
      }
    }
    return Boolean(name) || menuWasOpen;
  }

  #set(name, open) {
    document.getElementById(`${name}-panel`).hidden = !open;
    document.getElementById(`${name}-open`).setAttribute('aria-expanded', String(open));
    document.getElementById('meeting').classList.toggle('with-panel', open);
    this.#onToggle(name, open);
  }

  #setMenu(open) {
    const menu = document.getElementById('more-menu');
    const wasOpen = !menu.hidden;
    menu.hidden = !open;
    document.getElementById('more').setAttribute('aria-expanded', String(open));
    if (open) {
      [...menu.children].find((item) => item.offsetParent !== null)?.focus();
    }
    return wasOpen;
  }
}
