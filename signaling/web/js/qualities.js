/**
 * What the qualities of a picture are called. Cameras have three and screens two, as this page sends
 * them; what is sent in one is as good as it gets.
 */

import { CAMERA_ENCODINGS, SCREEN_ENCODINGS } from './encodings.js';

const NAMES = { camera: ['low', 'medium', 'high'], screen: ['low', 'high'] };

/**
 * The name of a quality.
 * @param {string} source
 * @param {number} layer counted from the smallest, 0; larger than any for the only one
 * @returns {string}
 */
export function layerName(source, layer) {
  return namesOf(source)[layer] ?? 'high';
}

/**
 * Which quality of one's own picture an encoding is, counted from the smallest, 0.
 * @param {string} source
 * @param {string} rid
 * @returns {number}
 */
export function layerOfRid(source, rid) {
  const encodings = source === 'screen' ? SCREEN_ENCODINGS : CAMERA_ENCODINGS;
  return encodings.findIndex((encoding) => encoding.rid === rid);
}

/**
 * What a person can choose from for a picture.
 * @param {string} source
 * @returns {{value: string, label: string}[]} `value` as `pinOfValue` takes it
 */
export function qualityChoices(source) {
  const names = namesOf(source);
  return [
    { value: valueOfPin(null), label: 'Automatic' },
    // The best is whatever there is: some publishers have more qualities than others.
    ...names.map((name, layer) => ({ value: valueOfPin(layer < names.length - 1 ? layer : 'best'), label: capital(name) })),
  ];
}

/**
 * A pin as the value of a choice.
 * @param {import('./encodings.js').Most|null} pin
 * @returns {string}
 */
export function valueOfPin(pin) {
  return pin === null ? 'auto' : String(pin);
}

/**
 * The pin that a choice stands for.
 * @param {string} value
 * @returns {import('./encodings.js').Most|null}
 */
export function pinOfValue(value) {
  if (value === 'auto') {
    return null;
  }
  return value === 'best' ? 'best' : Number(value);
}

function namesOf(source) {
  return NAMES[source] ?? NAMES.camera;
}

function capital(word) {
  return word[0].toUpperCase() + word.slice(1);
}
