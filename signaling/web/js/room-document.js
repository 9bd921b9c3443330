/**
 * The document of a room, as its node writes it, and what a change of it means in the words of the
 * room protocol. Nothing here knows a database.
 *
 * @typedef {{people: any[], speaking: string[], chat: {n: number, from: string, name: string, text: string}[]}} RoomView
 */

/** @type {RoomView} A room that no node has written about yet. */
export const EMPTY_ROOM = Object.freeze({ people: [], speaking: [], chat: [] });

/**
 * What a room's document says; what cannot be read is as if it were not there.
 * @param {Record<string, any>|null} fields
 * @returns {RoomView}
 */
export function readRoom(fields) {
  const people = list(fields?.people).filter((person) => typeof person?.id === 'string');
  return {
    people: people.map((person) => ({ ...person, name: person.name ?? '', tracks: person.tracks ?? [] })),
    speaking: list(fields?.speaking).filter((id) => typeof id === 'string'),
    chat: list(fields?.chat).filter((line) => Number.isFinite(line?.n)).sort((a, b) => a.n - b.n),
  };
}

function list(text) {
  try {
    const value = JSON.parse(text ?? '[]');
    return Array.isArray(value) ? value : [];
  } catch {
    return [];
  }
}

/**
 * Everybody in the room, oneself included: the node hears of a person only with the first offer.
 * @param {RoomView} room
 * @param {{id: string, name: string}} self
 */
export function peopleWith(room, self) {
  const known = room.people.some((person) => person.id === self.id);
  return known ? room.people : [...room.people, { ...self, tracks: [] }];
}

/**
 * The messages that lead from one view of a room to the next.
 * @param {RoomView} before
 * @param {RoomView} after
 * @param {string} you one's own id: oneself neither comes nor goes
 * @returns {object[]} as the room protocol has them
 */
export function roomMessages(before, after, you) {
  const old = new Map(before.people.map((person) => [person.id, person]));
  const present = new Set(after.people.map((person) => person.id));
  const gone = before.people.filter((person) => !present.has(person.id) && person.id !== you);
  const messages = gone.map((person) => ({ type: 'person-left', id: person.id }));
  for (const person of after.people) {
    const known = old.get(person.id);
    if (person.id !== you && (!known || known.name !== person.name)) {
      messages.push({ type: 'person-joined', person });
    } else if (!same(known?.tracks ?? [], person.tracks)) {
      messages.push({ type: 'tracks', id: person.id, tracks: person.tracks });
    }
    if (known && person.camera && known.camera !== person.camera) {
      messages.push({ type: 'camera', id: person.id, state: person.camera });
    }
  }
  if (!same(before.speaking, after.speaking)) {
    messages.push({ type: 'speaking', people: after.speaking });
  }
  return [...messages, ...newLines(before.chat, after.chat)];
}

function newLines(before, after) {
  const lastSeen = before.at(-1)?.n ?? -Infinity;
  // Another node that took the room over counts from the beginning.
  const restarted = (after.at(-1)?.n ?? Infinity) < lastSeen;
  return after
    .filter((line) => restarted || line.n > lastSeen)
    .map(({ from, name, text }) => ({ type: 'chat', from, name, text }));
}

function same(a, b) {
  return JSON.stringify(a) === JSON.stringify(b);
}
