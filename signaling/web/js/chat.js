/** The chat: its log, its unread badge and its form. */

/**
 * Cuts a text at its links.
 * @param {string} text
 * @returns {{text: string, link: boolean}[]}
 */
export function splitLinks(text) {
  const parts = [];
  let end = 0;
  for (const match of text.matchAll(/https?:\/\/[^\s<>"]+/gu)) {
    const link = match[0].replace(/[).,;:!?'\]]+$/u, '');
    if (match.index > end) {
      parts.push({ text: text.slice(end, match.index), link: false });
    }
    parts.push({ text: link, link: true });
    end = match.index + link.length;
  }
  if (end < text.length) {
    parts.push({ text: text.slice(end), link: false });
  }
  return parts;
}

/** The chat panel. */
export class Chat {
  #log;
  #input;
  #badge;
  #unread = 0;
  #open = false;
  #lastFrom = '';

  /**
   * @param {(text: string) => boolean} say whether it could be said
   */
  constructor(say) {
    this.#log = document.getElementById('chat-log');
    this.#input = document.getElementById('chat-input');
    this.#badge = document.getElementById('chat-unread');
    const form = document.getElementById('chat-form');
    form.addEventListener('submit', (event) => {
      event.preventDefault();
      const text = this.#input.value.trim();
      if (text && say(text)) {
        this.#input.value = '';
      }
    });
    this.#input.addEventListener('keydown', (event) => {
      if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        form.requestSubmit();
      }
    });
  }

  /** Forgets everything: another room. */
  clear() {
    this.#log.replaceChildren();
    this.#lastFrom = '';
    this.#setUnread(0);
  }

  /**
   * Shows one more message.
   * @param {import('./meeting-state.js').ChatLine} line
   */
  add(line) {
    const atEnd = this.#log.scrollHeight - this.#log.scrollTop - this.#log.clientHeight < 60;
    const item = document.createElement('li');
    item.className = 'chat-message';
    item.dataset.mine = String(line.mine);
    if (line.from !== this.#lastFrom) {
      const head = document.createElement('p');
      head.className = 'chat-head';
      const name = document.createElement('b');
      name.textContent = line.mine ? 'You' : line.name || 'Guest';
      const time = document.createElement('time');
      time.textContent = new Date().toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' });
      head.append(name, time);
      item.append(head);
    }
    this.#lastFrom = line.from;
    const body = document.createElement('p');
    body.className = 'chat-text';
    body.append(...splitLinks(line.text).map(renderPart));
    item.append(body);
    this.#log.append(item);
    if (atEnd || line.mine) {
      this.#log.scrollTop = this.#log.scrollHeight;
    }
    if (!this.#open && !line.mine) {
      this.#setUnread(this.#unread + 1);
    }
  }

  /**
   * The panel was opened or closed.
   * @param {boolean} open
   */
  setOpen(open) {
    this.#open = open;
    if (open) {
      this.#setUnread(0);
      this.#log.scrollTop = this.#log.scrollHeight;
      this.#input.focus();
    }
  }

  #setUnread(count) {
    this.#unread = count;
    this.#badge.hidden = count === 0;
    this.#badge.textContent = count > 99 ? '99+' : String(count);
    const label = count === 0 ? 'Chat (c)' : `Chat, ${count} unread (c)`;
    this.#badge.parentElement.setAttribute('aria-label', label);
  }
}

function renderPart({ text, link }) {
  if (!link) {
    return document.createTextNode(text);
  }
  const anchor = document.createElement('a');
  anchor.href = text;
  anchor.target = '_blank';
  anchor.rel = 'noopener noreferrer';
  anchor.textContent = text;
  return anchor;
}
