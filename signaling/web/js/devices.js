/** Cameras, microphones and speakers of this machine, and sentences for when they cannot be had. */

/**
 * Constraints for a camera: 720p at 30 frames/s where it can.
 * @param {string} [deviceId]
 * @returns {MediaTrackConstraints}
 */
export function cameraConstraints(deviceId) {
  return {
    width: { ideal: 1280 },
    height: { ideal: 720 },
    frameRate: { ideal: 30, max: 30 },
    ...(deviceId ? { deviceId: { ideal: deviceId } } : {}),
  };
}

/**
 * Constraints for a microphone: speech in a room.
 * @param {string} [deviceId]
 * @returns {MediaTrackConstraints}
 */
export function microphoneConstraints(deviceId) {
  return {
    echoCancellation: true,
    noiseSuppression: true,
    autoGainControl: true,
    channelCount: { ideal: 1 },
    ...(deviceId ? { deviceId: { ideal: deviceId } } : {}),
  };
}

/**
 * Opens a camera or a microphone.
 * @param {"camera"|"microphone"} source
 * @param {string} [deviceId] the preferred one; another is taken when it is gone
 * @returns {Promise<MediaStreamTrack>}
 */
export async function openDevice(source, deviceId) {
  const [track] = await openTracks(source === 'camera'
    ? { video: cameraConstraints(deviceId) } : { audio: microphoneConstraints(deviceId) });
  return track;
}

/**
 * Opens camera and microphone with one question to the person; fails when either is missing.
 * @param {string} [cameraId]
 * @param {string} [microphoneId]
 * @returns {Promise<{camera: MediaStreamTrack, microphone: MediaStreamTrack}>}
 */
export async function openBoth(cameraId, microphoneId) {
  const tracks = await openTracks({ video: cameraConstraints(cameraId), audio: microphoneConstraints(microphoneId) });
  return {
    camera: tracks.find((track) => track.kind === 'video'),
    microphone: tracks.find((track) => track.kind === 'audio'),
  };
}

async function openTracks(constraints) {
  if (!navigator.mediaDevices?.getUserMedia) {
    throw new DOMException('no media devices here', 'SecurityError');
  }
  const stream = await navigator.mediaDevices.getUserMedia(constraints);
  for (const track of stream.getVideoTracks()) {
    track.contentHint = 'motion';
  }
  return stream.getTracks();
}

/** Whether this browser can share a screen. */
export function canShareScreen() {
  return Boolean(navigator.mediaDevices?.getDisplayMedia);
}

/**
 * Asks for a screen, a window or a tab.
 * @returns {Promise<{video: MediaStreamTrack, audio: MediaStreamTrack|null}>}
 */
export async function openScreen() {
  const stream = await navigator.mediaDevices.getDisplayMedia({
    video: { frameRate: { ideal: 15, max: 30 } },
    audio: { echoCancellation: false, noiseSuppression: false, autoGainControl: false },
  });
  const [video] = stream.getVideoTracks();
  video.contentHint = 'detail';
  return { video, audio: stream.getAudioTracks()[0] ?? null };
}

/**
 * The devices there are; labels are empty until a permission was given.
 * @returns {Promise<{camera: MediaDeviceInfo[], microphone: MediaDeviceInfo[], speaker: MediaDeviceInfo[]}>}
 */
export async function listDevices() {
  const all = (await navigator.mediaDevices?.enumerateDevices?.().catch(() => [])) ?? [];
  const of = (kind) => all.filter((device) => device.kind === kind && device.deviceId !== '');
  return { camera: of('videoinput'), microphone: of('audioinput'), speaker: of('audiooutput') };
}

/**
 * Why a device could not be opened, in a sentence that says what to do.
 * @param {"camera"|"microphone"|"screen"} source
 * @param {{name: string}} error
 * @returns {string} empty when the person simply changed their mind
 */
export function explain(source, error) {
  switch (error.name) {
    case 'NotAllowedError':
      return source === 'screen'
        ? '' : `The browser may not use your ${source}. Allow it in the address bar, or join without.`;
    case 'NotFoundError':
      return `No ${source} was found. You can join without one.`;
    case 'NotReadableError':
    case 'AbortError':
      return `Your ${source} is in use by another program, or does not answer. You can join without it.`;
    case 'SecurityError':
      return `Browsers give out the ${source} only on https:// pages and on localhost. You can join to watch.`;
    default:
      return `Your ${source} could not be opened (${error.name}). You can join without it.`;
  }
}

/**
 * The same for camera and microphone together: one sentence when both have the same trouble.
 * @param {{camera: {name: string}|null, microphone: {name: string}|null}} errors
 * @returns {string} empty when nothing is wrong
 */
export function explainAll({ camera, microphone }) {
  if (!camera || !microphone || camera.name !== microphone.name) {
    return [camera && explain('camera', camera), microphone && explain('microphone', microphone)].filter(Boolean).join(' ');
  }
  switch (camera.name) {
    case 'NotAllowedError':
      return 'The browser may not use your camera and microphone. Allow it in the address bar, or join to watch.';
    case 'NotFoundError':
      return 'No camera and no microphone were found. You can join to watch.';
    case 'SecurityError':
      return 'Browsers give out camera and microphone only on https:// pages and on localhost. You can join to watch.';
    default:
      return 'Your camera and microphone do not answer; another program may be using them. You can join to watch.';
  }
}
