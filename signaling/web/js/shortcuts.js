/** Keys of the meeting. */

const ACTIONS = { m: 'mute', v: 'camera', s: 'share', c: 'chat', p: 'people', i: 'info', '?': 'help', Escape: 'close' };

/**
 * What a pressed key asks for; empty for nothing.
 * @param {{key: string, code?: string, repeat?: boolean, ctrlKey?: boolean, metaKey?: boolean, altKey?: boolean}} event
 * @param {{typing: boolean, onControl: boolean}} focus typing in a field; on a button that the space bar would press
 * @returns {""|"mute"|"camera"|"share"|"chat"|"people"|"info"|"help"|"close"|"talk"}
 */
export function actionOf(event, { typing, onControl }) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) {
    return '';
  }
  if (event.key === 'Escape') {
    return 'close';
  }
  if (typing) {
    return '';
  }
  if (event.key === ' ') {
    return onControl ? '' : 'talk';
  }
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  return ACTIONS[key] ?? '';
}

/**
 * What has the focus, as far as keys care.
 * @param {Element|null} element
 * @returns {{typing: boolean, onControl: boolean}}
 */
export function focusOf(element) {
  return {
    typing: Boolean(element?.matches('input, textarea, select, [contenteditable]')),
    onControl: Boolean(element?.matches('button, a, summary, [role="button"]')),
  };
}
