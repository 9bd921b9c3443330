/** How loud a microphone is right now. */

/**
 * Loudness of one moment's samples, on a scale that fits speech.
 * @param {Float32Array|number[]} samples -1 to 1
 * @returns {number} 0 (silence) to 1
 */
export function loudness(samples) {
  let sum = 0;
  for (const sample of samples) {
    sum += sample * sample;
  }
  const rms = Math.sqrt(sum / Math.max(samples.length, 1));
  const decibels = 20 * Math.log10(Math.max(rms, 1e-6));
  // Speech close to a microphone lies between about -60 and -15 dB below full scale.
  return Math.min(1, Math.max(0, (decibels + 60) / 45));
}

/** One for the page's life and all its meters: browsers allow only a few, and each takes a while to start. */
let context = null;

// Browsers keep sound asleep until the person did something.
if (globalThis.document) {
  for (const sign of ['pointerdown', 'keydown']) {
    document.addEventListener(sign, () => {
      if (context?.state === 'suspended') {
        context.resume().catch(() => {});
      }
    });
  }
}

/** Measures one track at a time. */
export class LevelMeter {
  #node = null;
  #track = null;
  #timer = 0;
  #show;

  /** @param {(level: number) => void} show 0 to 1, some 15 times a second */
  constructor(show) {
    this.#show = show;
  }

  /**
   * Measures this track from now on; `null` stops.
   * @param {MediaStreamTrack|null} track
   */
  watch(track) {
    if (track === this.#track) {
      return;
    }
    this.#track = track;
    clearInterval(this.#timer);
    this.#node?.disconnect();
    this.#node = null;
    this.#show(0);
    if (!track || !globalThis.AudioContext) {
      return;
    }
    context ??= new AudioContext();
    const analyser = context.createAnalyser();
    analyser.fftSize = 1024;
    this.#node = context.createMediaStreamSource(new MediaStream([track]));
    this.#node.connect(analyser);
    const samples = new Float32Array(analyser.fftSize);
    this.#timer = setInterval(() => {
      analyser.getFloatTimeDomainData(samples);
      this.#show(loudness(samples));
    }, 66);
  }
}
