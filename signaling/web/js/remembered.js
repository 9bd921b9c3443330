/** What the page remembers of its person from one visit to the next. */

const PREFIX = 'millrace.';

/**
 * @param {string} key
 * @returns {string} empty when nothing is remembered
 */
export function recall(key) {
  try {
    return localStorage.getItem(PREFIX + key) ?? '';
  } catch {
    // Storage is forbidden: nothing is remembered, everything else works.
    return '';
  }
}

/**
 * @param {string} key
 * @param {string} value
 */
export function remember(key, value) {
  try {
    localStorage.setItem(PREFIX + key, value);
  } catch {
    // See recall.
  }
}
