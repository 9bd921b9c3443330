/** The connection panel: what every stream does, renewed each second while it is open. */

import { shownRate } from './stats.js';

const SOURCE_NAMES = { camera: 'camera', microphone: 'microphone', screen: 'screen', 'screen-audio': 'screen sound' };

/** Fills `#info-body`. */
export class InfoPanel {
  #body;
  #read;
  #timer = 0;

  /**
   * @param {HTMLElement} body
   * @param {() => Promise<import('./stats.js').Summary>} read
   */
  constructor(body, read) {
    this.#body = body;
    this.#read = read;
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
    const receiving = summary.streams.filter((stream) => stream.direction === 'in' && stream.track);
    const sending = summary.streams.filter((stream) => stream.direction === 'out' && stream.source);
    this.#body.replaceChildren(
      overview(summary),
      ...section('You receive', receiving, (stream) => `${stream.name ?? ''}, ${SOURCE_NAMES[stream.source] ?? stream.kind}`),
      ...section('You send', sending, (stream) => SOURCE_NAMES[stream.source]),
    );
  }
}

function overview(summary) {
  const list = element('dl', 'figures');
  const add = (term, value) => {
    const row = element('div');
    row.append(element('dt', '', term), element('dd', '', value));
    list.append(row);
  };
  add('Round trip', summary.roundTripMs === null ? '–' : `${summary.roundTripMs.toFixed(summary.roundTripMs < 10 ? 1 : 0)} ms`);
  add('Transport', summary.transport ? summary.transport.toUpperCase() : 'not connected');
  add('Receiving', shownRate(summary.inBps));
  add('Sending', shownRate(summary.outBps));
  add('Server', summary.remote || '–');
  return list;
}

function section(title, streams, nameOf) {
  if (streams.length === 0) {
    return [];
  }
  const list = element('ul', 'streams');
  for (const stream of streams) {
    const item = element('li');
    item.append(element('h4', '', nameOf(stream)), element('p', '', figures(stream)), quality(stream));
    list.append(item);
  }
  return [element('h3', '', title), list];
}

function figures(stream) {
  const picture = stream.kind === 'video' && stream.width > 0
    ? [`${stream.width} × ${stream.height}`, `${Math.round(stream.fps)} frames/s`] : [];
  return [...picture, shownRate(stream.bitrateBps), stream.codec].filter(Boolean).join(' · ');
}

function quality(stream) {
  const freezes = stream.freezes > 0 ? `, ${stream.freezes} freezes` : '';
  const line = element('p', 'quality', `loss ${stream.lossPercent.toFixed(1)} %, jitter ${stream.jitterMs.toFixed(1)} ms${freezes}`);
  line.dataset.grade = stream.lossPercent > 5 ? 'bad' : stream.lossPercent > 1 ? 'fair' : 'good';
  return line;
}

function element(tag, className = '', text = '') {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
}
