/**
 * What a wall shows of a room: its cameras and how it is with each. People are not shown.
 *
 * @typedef {import('./meeting-state.js').MeetingState} MeetingState
 * @typedef {{id: string, name: string, state: string, track: string}} Eye `track` is empty before the camera is known
 */

import { shownName, trackOf } from './meeting-state.js';

/** A wall's own name in the room. */
export const WALL_NAME = 'Wall';

/**
 * The cameras of a room, by name and then in the order in which they came: a wall looks the same each time.
 * @param {MeetingState} state
 * @returns {Eye[]}
 */
export function eyesOf(state) {
  const cameras = state.people.filter((person) => person.camera);
  const eyes = cameras.map((person) => ({
    id: person.id,
    name: shownName(person),
    state: person.camera,
    track: trackOf(person, 'camera')?.id ?? '',
  }));
  return eyes.sort((one, other) => one.name.localeCompare(other.name, undefined, { numeric: true }));
}

/**
 * The tracks that a wall asks the server for: pictures of cameras, without sound.
 * @param {MeetingState} state
 * @returns {{id: string, kind: string}[]}
 */
export function wantedPictures(state) {
  return eyesOf(state).filter((eye) => eye.track).map((eye) => ({ id: eye.track, kind: 'video' }));
}

/**
 * What is written over a camera; empty where its picture says enough.
 * @param {string} state
 * @param {{track: string, picture: boolean, paused: boolean}} shown whether it has a track, a picture was shown, and the
 *   network is too slow for it
 * @returns {string}
 */
export function wordFor(state, { track, picture, paused }) {
  switch (state) {
    case 'away':
      return 'Away';
    case 'refused':
      return 'Cannot be shown';
    default:
      if (paused) {
        return 'Your connection is too slow';
      }
      if (picture) {
        return '';
      }
      return track ? 'Waiting for a picture' : 'Connecting';
  }
}

/**
 * The room in a wall's address.
 * @param {string} pathname
 * @returns {string}
 */
export function roomOfWall(pathname) {
  return /^\/wall\/([A-Za-z0-9_-]{1,64})\/?$/u.exec(pathname)?.[1] ?? '';
}
