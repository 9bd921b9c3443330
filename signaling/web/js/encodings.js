/**
 * In how many encodings a picture is sent, how good each of them is, and which are needed now: the
 * decisions alone, without WebRTC.
 *
 * @typedef {{rid?: string, scaleResolutionDownBy: number, maxBitrate: number}} Encoding
 *   `rid` names it in every packet, `scaleResolutionDownBy` 1 is full size, `maxBitrate` in bits per second
 * @typedef {number|"best"|"off"} Most how good a picture is wanted at most; a number counts encodings from the smallest, 0
 */

/**
 * A camera's encodings, the smallest first, as SDP wants them. Of 1280 × 720 they are a thumbnail, a
 * tile and a picture that fills a window.
 * @type {Encoding[]}
 */
export const CAMERA_ENCODINGS = [
  { rid: 'q', scaleResolutionDownBy: 4, maxBitrate: 150_000 },
  { rid: 'h', scaleResolutionDownBy: 2, maxBitrate: 500_000 },
  { rid: 'f', scaleResolutionDownBy: 1, maxBitrate: 1_700_000 },
];

/**
 * A shared screen's: text is read in full size, and half of it shows those on a slow network at least
 * what is going on. A quarter would show nothing.
 * @type {Encoding[]}
 */
export const SCREEN_ENCODINGS = [
  { rid: 'h', scaleResolutionDownBy: 2, maxBitrate: 400_000 },
  { rid: 'f', scaleResolutionDownBy: 1, maxBitrate: 2_500_000 },
];

/** A wish for less has to last this long: whoever turns a page of tiles back wants the picture again. */
export const DEMAND_FALLS_AFTER_MS = 3_000;

/**
 * The only encoding of a camera where nobody says what they want of it: the more people watch, the
 * smaller their tiles.
 * @param {number} people in the room
 * @returns {Encoding}
 */
export function cameraBudget(people) {
  if (people <= 2) {
    return { maxBitrate: 1_700_000, scaleResolutionDownBy: 1 };
  }
  if (people <= 4) {
    return { maxBitrate: 1_200_000, scaleResolutionDownBy: 1 };
  }
  if (people <= 9) {
    return { maxBitrate: 600_000, scaleResolutionDownBy: 2 };
  }
  return { maxBitrate: 300_000, scaleResolutionDownBy: 3 };
}

/**
 * The largest of some encodings as the only one: without a name, for browsers and servers that take no several.
 * @param {Encoding[]} encodings
 * @returns {Encoding}
 */
export function only(encodings) {
  const { rid, ...largest } = encodings.at(-1);
  return largest;
}

/**
 * How many encodings have to be sent, from the smallest up. That one is always sent, so that whoever
 * comes next sees something at once.
 * @param {Most} most the best that anybody wants
 * @param {number} count how many there are
 * @returns {number} 1 up to `count`
 */
export function sentCount(most, count) {
  if (most === 'best') {
    return count;
  }
  return Math.min(1 + (most === 'off' ? 0 : most), count);
}

/**
 * Brings the encodings of a sender's parameters to what is planned.
 * @param {any[]} present from `getParameters`, changed in place; a single one may be left of several
 * @param {Encoding[]} planned
 * @param {Most} most the best that anybody wants
 * @returns {boolean} whether anything is different now
 */
export function applyEncodings(present, planned, most) {
  let changed = false;
  const plans = present.length === 1 ? [only(planned)] : planned;
  const sent = sentCount(most, plans.length);
  present.forEach((encoding, index) => {
    const { maxBitrate, scaleResolutionDownBy } = plans[index] ?? plans.at(-1);
    for (const [key, value] of Object.entries({ maxBitrate, scaleResolutionDownBy, active: index < sent })) {
      if (encoding[key] !== value) {
        encoding[key] = value;
        changed = true;
      }
    }
  });
  return changed;
}

/** The best that anybody wants of one source: more at once, less when it was wanted for a while. */
export class Demand {
  #onChange;
  #most = 'best';
  #next = 'best';
  #timer = 0;

  /** @param {() => void} onChange `most` is another one */
  constructor(onChange) {
    this.#onChange = onChange;
  }

  /**
   * What holds now.
   * @returns {Most}
   */
  get most() {
    return this.#most;
  }

  /**
   * The server says what is wanted.
   * @param {Most} most
   */
  wish(most) {
    if (most === this.#next) {
      return;
    }
    clearTimeout(this.#timer);
    this.#next = most;
    if (rank(most) > rank(this.#most)) {
      this.#take();
    } else if (most !== this.#most) {
      this.#timer = setTimeout(() => this.#take(), DEMAND_FALLS_AFTER_MS);
    }
  }

  /** A server that has said nothing yet may want everything. */
  reset() {
    clearTimeout(this.#timer);
    this.#most = 'best';
    this.#next = 'best';
  }

  #take() {
    this.#most = this.#next;
    this.#onChange();
  }
}

function rank(most) {
  return { off: -1, best: Infinity }[most] ?? most;
}
