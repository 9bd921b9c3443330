/** Sentences for the person: seen for a moment, heard by who does not see, or standing while something lasts. */

let toastTimer = 0;

/**
 * Shows a sentence for some seconds.
 * @param {string} text nothing happens when empty
 */
export function toast(text) {
  const element = document.getElementById('toast');
  if (!text) {
    return;
  }
  clearTimeout(toastTimer);
  element.textContent = text;
  element.hidden = false;
  toastTimer = setTimeout(() => {
    element.hidden = true;
  }, 5000);
}

/**
 * Has a screen reader say a sentence.
 * @param {string} text nothing happens when empty
 */
export function announce(text) {
  if (text) {
    document.getElementById('announcer').textContent = text;
  }
}

/**
 * Shows a sentence for as long as something is wrong.
 * @param {string} text empty to take it away
 */
export function banner(text) {
  const element = document.getElementById('banner');
  if (element.textContent !== text) {
    element.textContent = text;
  }
  element.hidden = text === '';
}
