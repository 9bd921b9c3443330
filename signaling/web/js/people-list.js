/** The list of who is in the room. */

import { makeIcon } from './icon.js';
import { hueOf, initials, isAway, isMuted, isVisible, shownName, trackOf } from './meeting-state.js';

/**
 * Renews the list.
 * @param {HTMLElement} list
 * @param {import('./meeting-state.js').MeetingState} state
 */
export function showPeople(list, state) {
  list.replaceChildren(...state.people.map((person) => personItem(person, state)));
}

function personItem(person, state) {
  const item = document.createElement('li');
  item.dataset.speaking = String(state.speaking.includes(person.id));
  const avatar = document.createElement('span');
  avatar.className = 'avatar';
  avatar.setAttribute('aria-hidden', 'true');
  avatar.textContent = initials(shownName(person));
  item.style.setProperty('--hue', String(hueOf(person.id + shownName(person))));
  const name = document.createElement('span');
  name.className = 'person-name';
  name.textContent = person.id === state.you ? `${shownName(person)} (you)` : shownName(person);
  item.append(avatar, name, ...marks(person));
  return item;
}

function marks(person) {
  const made = [];
  const mark = (icon, text) => {
    const element = makeIcon(icon);
    element.setAttribute('role', 'img');
    element.removeAttribute('aria-hidden');
    element.setAttribute('aria-label', text);
    made.push(element);
  };
  if (person.camera) {
    mark(isAway(person) ? 'camera-off' : 'camera', isAway(person) ? 'a camera that is away' : 'a camera');
    return made;
  }
  if (trackOf(person, 'screen')) {
    mark('share', 'shares a screen');
  }
  mark(isVisible(person, 'camera') ? 'camera' : 'camera-off', isVisible(person, 'camera') ? 'camera on' : 'camera off');
  mark(isMuted(person) ? 'mic-off' : 'mic', isMuted(person) ? 'muted' : 'microphone on');
  return made;
}
