/**
 * How good a picture this page wants of each track that it receives, and telling the server: what fits
 * the tile, or what the person pinned.
 *
 * @typedef {import('./encodings.js').Most} Most
 * @typedef {{most: Most, priority: number}} Wish tracks of a higher priority get their share of the network first
 * @typedef {{track: string, person: string, source: string, heightPx: number}} ShownTile `heightPx` in device pixels
 */

/** Up to this height the smallest quality fills a tile, and up to the next one the second, in device pixels. */
const SMALL_TILE_MAX_PX = 200;
const MEDIUM_TILE_MAX_PX = 420;

/** A screen is read: it comes before faces, who leads the conversation before who speaks, and that one before who listens. */
const PRIORITY_SCREEN = 3;
const PRIORITY_DOMINANT = 2;
const PRIORITY_SPEAKER = 1;

/** Changes gather for this long, as those of a window that is being resized. */
export const WISHES_GATHER_MS = 300;
/** The server drops who says more than 50 things a second; the rest is for everything else. */
export const WISHES_PER_S_MAX = 20;

/** What the server goes by for a section until it hears something else. */
const UNSAID = Object.freeze({ most: 'best', priority: 0 });

/**
 * What is wanted of one picture.
 * @param {{source: string, heightPx: number}} tile
 * @param {{speaks?: boolean, dominates?: boolean}} voice what its person does
 * @param {Most} [pinned]
 * @returns {Wish}
 */
export function wishFor({ source, heightPx }, { speaks = false, dominates = false }, pinned) {
  if (source === 'screen') {
    return { most: pinned ?? 'best', priority: PRIORITY_SCREEN };
  }
  const priority = speaks ? PRIORITY_SPEAKER : 0;
  return { most: pinned ?? mostFor(heightPx), priority: dominates ? PRIORITY_DOMINANT : priority };
}

function mostFor(heightPx) {
  if (heightPx <= SMALL_TILE_MAX_PX) {
    return 0;
  }
  return heightPx <= MEDIUM_TILE_MAX_PX ? 1 : 'best';
}

/**
 * The wishes of one page. The server heeds them for tracks that the settled connection receives, and
 * forgets them when a section carries another track; so does this.
 */
export class Wishes {
  #say;
  #tiles = [];
  #speaking = [];
  #dominant = '';
  #pins = new Map();
  /** By track: which section carries it, and what the server was told about it. */
  #received = new Map();
  #sentAt = [];
  #timer = 0;

  /** @param {(message: object) => boolean} say whether it was sent */
  constructor(say) {
    this.#say = say;
  }

  /**
   * What the page shows, as often as that may have changed.
   * @param {ShownTile[]} tiles
   * @param {string[]} speaking ids of the people who speak
   * @param {string} [dominant] id of who has spoken loudest over the last seconds
   */
  show(tiles, speaking, dominant = '') {
    this.#tiles = tiles;
    this.#speaking = speaking;
    this.#dominant = dominant;
    this.#sendSoon();
  }

  /**
   * Pins the quality of a person's picture, over all the tracks that carry it.
   * @param {string} person
   * @param {string} source
   * @param {Most|null} most `null` to go by the tile again
   */
  pin(person, source, most) {
    if (most === null) {
      this.#pins.delete(`${person}/${source}`);
    } else {
      this.#pins.set(`${person}/${source}`, most);
    }
    this.#sendSoon();
  }

  /**
   * What was pinned of a person's picture.
   * @param {string} person
   * @param {string} source
   * @returns {Most|null}
   */
  pinOf(person, source) {
    return this.#pins.get(`${person}/${source}`) ?? null;
  }

  /**
   * What the settled connection receives; of a new connection nothing at first.
   * @param {Map<string, string>} sections track id to `mid`
   */
  setReceived(sections) {
    const before = this.#received;
    this.#received = new Map([...sections].map(([track, mid]) => {
      const known = before.get(track);
      return [track, known?.mid === mid ? known : { mid, told: UNSAID }];
    }));
    this.#sendSoon();
  }

  /** What was said last may have been lost: says everything again. */
  repeat() {
    for (const known of this.#received.values()) {
      known.told = null;
    }
    this.#sendSoon();
  }

  /** The meeting is over. */
  clear() {
    clearTimeout(this.#timer);
    this.#timer = 0;
    this.#tiles = [];
    this.#speaking = [];
    this.#dominant = '';
    this.#pins.clear();
    this.#received.clear();
  }

  #sendSoon(delayMs = WISHES_GATHER_MS) {
    this.#timer ||= setTimeout(() => {
      this.#timer = 0;
      this.#send();
    }, delayMs);
  }

  #send() {
    const now = Date.now();
    this.#sentAt = this.#sentAt.filter((at) => now - at < 1_000 && at <= now);
    for (const tile of this.#tiles) {
      const known = this.#received.get(tile.track);
      const voice = { speaks: this.#speaking.includes(tile.person), dominates: this.#dominant === tile.person };
      const wish = wishFor(tile, voice, this.pinOf(tile.person, tile.source) ?? undefined);
      if (!known || (known.told?.most === wish.most && known.told?.priority === wish.priority)) {
        continue;
      }
      if (this.#sentAt.length >= WISHES_PER_S_MAX) {
        this.#sendSoon(1_000);
        return;
      }
      if (!this.#say({ type: 'prefer', track: tile.track, ...wish })) {
        // Not connected: whoever comes back repeats everything.
        return;
      }
      known.told = wish;
      this.#sentAt.push(now);
    }
  }
}
