/**
 * The connection panel: what every stream does, renewed each second while it is open. Its rows stay
 * the same elements, so that a select in them keeps the focus and its open list.
 */

import { layerName, layerOfRid, pinOfValue, qualityChoices, valueOfPin } from './qualities.js';
import { shownRate } from './stats.js';

const SOURCE_NAMES = { camera: 'camera', microphone: 'microphone', screen: 'screen', 'screen-audio': 'screen sound' };

/** Fills `#info-body`. */
export class InfoPanel {
  #read;
  #state;
  #wishes;
  #figures = element('dl', 'figures');
  #received = new StreamList('You receive');
  #sent = new StreamList('You send');
  #timer = 0;

  /**
   * @param {HTMLElement} body
   * @param {{
   *   read: () => Promise<import('./stats.js').Summary>,
   *   state: () => import('./meeting-state.js').MeetingState,
   *   wishes: import('./wishes.js').Wishes|null,
   * }} source `wishes`: where qualities are pinned, if they can be
   */
  constructor(body, { read, state, wishes }) {
    this.#read = read;
    this.#state = state;
    this.#wishes = wishes;
    body.append(this.#figures, ...this.#received.elements, ...this.#sent.elements);
  }

  /**
   * Starts or stops renewing.
   * @param {boolean} open
   */
  setOpen(open) {
    clearInterval(this.#timer);
    if (open) {
      this.#renew();
      this.#timer = setInterval(() => this.#renew(), 1000);
    }
  }

  async #renew() {
    const summary = await this.#read();
    const { layers, estimate } = this.#state();
    const receiving = summary.streams.filter((stream) => stream.direction === 'in' && stream.track);
    const sending = summary.streams.filter((stream) => stream.direction === 'out' && stream.source)
      .sort((a, b) => a.mid.localeCompare(b.mid) || layerOfRid(a.source, a.rid) - layerOfRid(b.source, b.rid));
    this.#figures.replaceChildren(...figures(summary, estimate));
    this.#received.show(receiving.map((stream) => ({
      stream,
      title: `${stream.name ?? ''}, ${SOURCE_NAMES[stream.source] ?? stream.kind}`,
      quality: qualityIn(stream, layers.get(stream.track)),
    })), this.#wishes);
    this.#sent.show(sending.map((stream) => ({
      stream, title: SOURCE_NAMES[stream.source], quality: qualityOut(stream),
    })), null);
  }
}

function figures(summary, estimate) {
  const { roundTripMs } = summary;
  const carries = estimate === null ? '' : ` of ~${shownRate(estimate)}`;
  return [
    ['Round trip', roundTripMs === null ? '–' : `${roundTripMs.toFixed(roundTripMs < 10 ? 1 : 0)} ms`],
    ['Transport', summary.transport ? summary.transport.toUpperCase() : 'not connected'],
    ['Receiving', shownRate(summary.inBps) + carries],
    ['Sending', shownRate(summary.outBps)],
    ['Server', summary.remote || '–'],
  ].map(([term, value]) => {
    const row = element('div');
    row.append(element('dt', '', term), element('dd', '', value));
    return row;
  });
}

/** Which quality of a picture comes in, in a word. */
function qualityIn(stream, sent) {
  if (stream.kind !== 'video' || !sent) {
    return '';
  }
  if (sent.layer === null) {
    return sent.pause === 'no-room' ? 'paused: too slow a connection' : 'paused';
  }
  return layerName(stream.source, sent.layer);
}

/** Which quality of a picture goes out, where there are several. */
function qualityOut({ source, rid, active }) {
  if (rid === '') {
    return '';
  }
  return `${layerName(source, layerOfRid(source, rid))}${active ? '' : ', nobody wants it now'}`;
}

/** Rows of streams under a title, which is hidden while there are none. */
class StreamList {
  #title;
  #list = element('ul', 'streams');
  #rows = new Map();

  constructor(title) {
    this.#title = element('h3', '', title);
  }

  get elements() {
    return [this.#title, this.#list];
  }

  show(entries, wishes) {
    this.#title.hidden = entries.length === 0;
    const before = this.#rows;
    this.#rows = new Map(entries.map((entry) => {
      const { mid, rid, track, person } = entry.stream;
      const key = [mid, rid, track, person].join('/');
      const row = before.get(key) ?? new Row(entry.stream, wishes);
      row.show(entry);
      return [key, row];
    }));
    arrange(this.#list, [...this.#rows.values()].map((row) => row.element));
  }
}

/** One stream. */
class Row {
  element = element('li');
  #title = element('h4');
  #figures = element('p');
  #quality = element('p', 'quality');
  #select = null;
  #pinned = () => null;

  constructor({ kind, person, source }, wishes) {
    this.element.append(this.#title, this.#figures, this.#quality);
    if (wishes && kind === 'video' && person) {
      Object.assign(this.element.dataset, { person, source });
      this.#pinned = () => wishes.pinOf(person, source);
      this.#addSelect(source, (pin) => wishes.pin(person, source, pin));
    }
  }

  show({ stream, title, quality }) {
    setText(this.#title, title);
    setText(this.#figures, figuresOf(stream, quality));
    const freezes = stream.freezes > 0 ? `, ${stream.freezes} freezes` : '';
    setText(this.#quality, `loss ${stream.lossPercent.toFixed(1)} %, jitter ${stream.jitterMs.toFixed(1)} ms${freezes}`);
    this.#quality.dataset.grade = stream.lossPercent > 5 ? 'bad' : stream.lossPercent > 1 ? 'fair' : 'good';
    if (this.#select) {
      this.#select.setAttribute('aria-label', `Quality of ${title}`);
      this.#select.value = valueOfPin(this.#pinned());
    }
  }

  #addSelect(source, pin) {
    const label = element('label', 'pin', 'Quality');
    const select = element('select');
    select.append(...qualityChoices(source).map(({ value, label: text }) => new Option(text, value)));
    select.addEventListener('change', () => pin(pinOfValue(select.value)));
    label.append(select);
    this.element.append(label);
    this.#select = select;
  }
}

function figuresOf(stream, quality) {
  const picture = stream.kind === 'video' && stream.width > 0
    ? [`${stream.width} × ${stream.height}`, `${Math.round(stream.fps)} frames/s`] : [];
  return [quality, ...picture, shownRate(stream.bitrateBps), stream.codec].filter(Boolean).join(' · ');
}

/** Makes these the children of an element, in this order; those that stay in place are not touched. */
function arrange(parent, children) {
  for (const child of [...parent.children]) {
    if (!children.includes(child)) {
      child.remove();
    }
  }
  children.forEach((child, index) => {
    if (parent.children[index] !== child) {
      parent.insertBefore(child, parent.children[index] ?? null);
    }
  });
}

function setText(target, text) {
  if (target.textContent !== text) {
    target.textContent = text;
  }
}

function element(tag, className = '', text = '') {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
}
