/** Names of rooms: what is allowed, what a URL says, and a friendly one when nobody chose. */

/** The longest name that the server takes. */
export const ROOM_NAME_MAX = 64;

const FIRST = ['amber', 'brisk', 'calm', 'clear', 'dewy', 'early', 'fern', 'gentle', 'golden', 'green', 'hazel', 'light',
  'mellow', 'mossy', 'open', 'quiet', 'reedy', 'silver', 'slow', 'sunny', 'swift', 'willow'];
const SECOND = ['beck', 'bend', 'bridge', 'brook', 'burn', 'creek', 'ferry', 'ford', 'lock', 'meadow', 'mill', 'otter',
  'pond', 'rapids', 'river', 'sluice', 'spring', 'stream', 'wade', 'wheel', 'weir', 'wren'];

/**
 * The nearest allowed name: spaces become `-`, what is not allowed is left out.
 * @param {string} text
 * @returns {string} possibly empty
 */
export function cleanRoomName(text) {
  return text.trim().normalize('NFKD').replace(/[\s./]+/gu, '-').replace(/[^A-Za-z0-9_-]/gu, '').slice(0, ROOM_NAME_MAX);
}

/**
 * A room's name that is easy to say and unlikely to be taken.
 * @param {() => number} [random] 0 up to 1
 * @returns {string}
 */
export function friendlyRoomName(random = Math.random) {
  const pick = (words) => words[Math.floor(random() * words.length)];
  return `${pick(FIRST)}-${pick(SECOND)}-${10 + Math.floor(random() * 90)}`;
}

/**
 * What a page's address asks for.
 * @param {{pathname: string, search: string}} address
 * @returns {{room: string, name: string, join: boolean}}
 */
export function readAddress({ pathname, search }) {
  const query = new URLSearchParams(search);
  const fromPath = /^\/r\/([^/]+)\/?$/u.exec(pathname)?.[1] ?? '';
  return {
    room: cleanRoomName(query.get('room') ?? decode(fromPath)),
    name: (query.get('name') ?? '').slice(0, 64),
    join: query.get('join') === '1',
  };
}

/**
 * The link that brings somebody to a room.
 * @param {string} origin
 * @param {string} room
 * @returns {string}
 */
export function roomLink(origin, room) {
  return `${origin}/r/${encodeURIComponent(room)}`;
}

function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
