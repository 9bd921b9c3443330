/**
 * What a client knows about its meeting: a plain value, and how each message of the room protocol
 * changes it. Nothing here touches the page or the network.
 *
 * @typedef {{id: string, source: string, kind: "audio"|"video", muted: boolean}} Track
 * @typedef {{id: string, name: string, tracks: Track[], camera?: string}} Person `camera`: how it is with the camera that it is
 * @typedef {{from: string, name: string, text: string, mine: boolean}} ChatLine
 * @typedef {{layer: number|null, pause: "no-room"|"unwanted"|null}} Sent which quality of a picture is sent, counted
 *   from the smallest, 0; `null` while it is paused, and why
 * @typedef {{
 *   you: string, room: string, people: Person[], speaking: string[], dominant: string, chat: ChatLine[],
 *   layers: Map<string, Sent>, estimate: number|null,
 * }} MeetingState `layers` by track id; `estimate`: what the server thinks that this network carries, bits per second
 */

/** Chat lines kept; older ones are dropped. */
export const CHAT_LINES_MAX = 500;

/** @type {MeetingState} Before anything was joined. */
export const EMPTY = Object.freeze({ you: '', room: '', people: [], speaking: [], dominant: '', chat: [], layers: new Map(), estimate: null });

/** What holds for a media connection that has just begun. */
const NOTHING_SENT = Object.freeze({ layers: EMPTY.layers, estimate: EMPTY.estimate });

/**
 * The state after a message. Unknown messages leave it as it is, the very same object.
 * @param {MeetingState} state
 * @param {any} message
 * @returns {MeetingState}
 */
export function reduce(state, message) {
  switch (message.type) {
    case 'joined':
      return {
        you: message.you,
        room: message.room,
        people: message.people.map(cleanPerson),
        speaking: [],
        dominant: '',
        // A connection that came back keeps the conversation; so does a person who had to join again.
        chat: state.room === message.room ? state.chat : [],
        ...(state.you === message.you ? { layers: state.layers, estimate: state.estimate } : NOTHING_SENT),
      };
    case 'person-joined':
      return { ...state, people: withPerson(state.people, cleanPerson(message.person)) };
    case 'person-left':
      return {
        ...state,
        people: state.people.filter((person) => person.id !== message.id),
        speaking: state.speaking.filter((id) => id !== message.id),
        dominant: state.dominant === message.id ? '' : state.dominant,
        layers: layersBut(state, message.id, []),
      };
    case 'tracks':
      return {
        ...state,
        people: state.people.map((person) =>
          person.id === message.id ? { ...person, tracks: message.tracks ?? [] } : person),
        layers: layersBut(state, message.id, message.tracks ?? []),
      };
    case 'camera':
      return {
        ...state,
        people: state.people.map((person) => (person.id === message.id ? { ...person, camera: message.state } : person)),
      };
    case 'layer': {
      const sent = { layer: message.layer ?? null, pause: message.pause ?? null };
      return { ...state, layers: new Map(state.layers).set(message.track, sent) };
    }
    case 'estimate':
      return { ...state, estimate: message.bps };
    case 'media-lost':
      // The next connection begins anew.
      return { ...state, ...NOTHING_SENT };
    case 'speaking':
      return { ...state, speaking: message.people ?? [], dominant: message.dominant ?? '' };
    case 'chat': {
      const line = { from: message.from, name: message.name, text: message.text, mine: message.from === state.you };
      return { ...state, chat: [...state.chat, line].slice(-CHAT_LINES_MAX) };
    }
    default:
      return state;
  }
}

/** The layers without those of a person's tracks that are not among `tracks`. */
function layersBut({ people, layers }, id, tracks) {
  const kept = new Set(tracks.map((track) => track.id));
  const gone = (people.find((person) => person.id === id)?.tracks ?? []).filter((track) => !kept.has(track.id));
  const left = new Map(layers);
  gone.forEach((track) => left.delete(track.id));
  return left;
}

function cleanPerson(person) {
  const { id, name, tracks, camera } = person;
  return { id, name: name ?? '', tracks: tracks ?? [], ...(camera ? { camera } : {}) };
}

function withPerson(people, person) {
  const known = people.some((other) => other.id === person.id);
  return known ? people.map((other) => (other.id === person.id ? person : other)) : [...people, person];
}

/**
 * Everybody but this client's own person, in the order in which they came.
 * @param {MeetingState} state
 * @returns {Person[]}
 */
export function others(state) {
  return state.people.filter((person) => person.id !== state.you);
}

/**
 * The tracks to ask the server for, each with whose it is.
 * @param {MeetingState} state
 * @returns {(Track & {person: string, name: string})[]}
 */
export function wantedTracks(state) {
  return others(state).flatMap((person) =>
    person.tracks.map((track) => ({ ...track, person: person.id, name: shownName(person) })));
}

/**
 * A person's track of one source.
 * @param {Person|undefined} person
 * @param {string} source
 * @returns {Track|undefined}
 */
export function trackOf(person, source) {
  return person?.tracks.find((track) => track.source === source);
}

/**
 * Whether a person cannot be heard: no microphone, or a muted one. A camera has nobody to hear.
 * @param {Person} person
 * @returns {boolean}
 */
export function isMuted(person) {
  return trackOf(person, 'microphone')?.muted ?? !person.camera;
}

/**
 * Whether a person has a picture to show for `source`.
 * @param {Person} person
 * @param {string} source
 * @returns {boolean}
 */
export function isVisible(person, source) {
  const track = trackOf(person, source);
  return track !== undefined && !track.muted;
}

/**
 * Whether a person is a camera that shows nothing now, because it does not answer or cannot be shown.
 * @param {Person} person
 * @returns {boolean}
 */
export function isAway(person) {
  return person.camera === 'away' || person.camera === 'refused';
}

/**
 * Whether a picture is paused because the network does not carry even its smallest quality.
 * @param {MeetingState} state
 * @param {string|undefined} track
 * @returns {boolean}
 */
export function hasNoRoom(state, track) {
  return state.layers.get(track)?.pause === 'no-room';
}

/**
 * How a person is called on the page.
 * @param {Person} person
 * @returns {string}
 */
export function shownName(person) {
  return person.name.trim() || 'Guest';
}

/**
 * Up to two letters that stand for a name.
 * @param {string} name
 * @returns {string}
 */
export function initials(name) {
  const words = name.trim().split(/[\s_.-]+/u).filter(Boolean);
  const letters = words.length > 1 ? [words[0], words[words.length - 1]] : words;
  return letters.map((word) => [...word][0]).join('').toUpperCase() || '?';
}

/**
 * A colour angle that stays the same for the same text.
 * @param {string} text
 * @returns {number} 0 to 359
 */
export function hueOf(text) {
  let hash = 0;
  for (const char of text) {
    hash = (hash * 31 + char.codePointAt(0)) % 360000;
  }
  return hash % 360;
}

/**
 * What to say aloud about a message, for people who do not see the page; empty for most messages.
 * @param {MeetingState} before the state that the message met
 * @param {any} message
 * @returns {string}
 */
export function announcement(before, message) {
  const person = before.people.find((other) => other.id === (message.id ?? ''));
  switch (message.type) {
    case 'person-joined':
      return before.people.some((other) => other.id === message.person.id)
        ? '' : `${shownName(cleanPerson(message.person))} joined`;
    case 'person-left':
      return person ? `${shownName(person)} left` : '';
    case 'tracks': {
      if (!person || person.id === before.you) {
        return '';
      }
      const shared = person.tracks.some((track) => track.source === 'screen');
      const shares = (message.tracks ?? []).some((track) => track.source === 'screen');
      if (shared === shares) {
        return '';
      }
      return `${shownName(person)} ${shares ? 'shares their screen' : 'stopped sharing'}`;
    }
    case 'chat':
      return message.from === before.you ? '' : `${message.name || 'Guest'} says: ${message.text}`;
    default:
      return '';
  }
}
