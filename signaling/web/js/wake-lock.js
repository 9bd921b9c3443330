/** Keeps a phone's screen on during a meeting. */

let wanted = false;
let lock = null;

/**
 * Screen on from now on, or free to go dark again.
 * @param {boolean} awake
 */
export function keepAwake(awake) {
  wanted = awake;
  if (awake) {
    take();
  } else {
    lock?.release().catch(() => {});
    lock = null;
  }
}

async function take() {
  if (!navigator.wakeLock || document.visibilityState !== 'visible' || (lock && !lock.released)) {
    return;
  }
  try {
    lock = await navigator.wakeLock.request('screen');
    if (!wanted) {
      lock.release().catch(() => {});
    }
  } catch {
    // Low battery or a policy forbids it: the screen goes dark as it always does.
  }
}

if (globalThis.document) {
  // The browser takes the lock away while the page is hidden.
  document.addEventListener('visibilitychange', () => wanted && take());
}
