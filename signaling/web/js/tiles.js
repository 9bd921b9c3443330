/** The pictures of a meeting: one tile for each camera, one for each shared screen, and one's own. */

import { makeIcon } from './icon.js';
import { arrange } from './layout.js';
import { hasNoRoom, hueOf, initials, isAway, isMuted, isVisible, others, shownName, trackOf } from './meeting-state.js';

const TOO_SLOW = 'Paused: your connection is too slow for this picture';
const CAMERA_AWAY = 'This camera is away';

/** The tiles in `#stage`. */
export class Tiles {
  #stage;
  #onLayout;
  #tiles = new Map();
  #received = new Map();
  #frame = 0;

  /**
   * @param {HTMLElement} stage
   * @param {(shown: import('./wishes.js').ShownTile[]) => void} onLayout the others' pictures, as large as they are now
   */
  constructor(stage, onLayout) {
    this.#stage = stage;
    this.#onLayout = onLayout;
    new ResizeObserver(() => this.#layOutSoon()).observe(stage);
  }

  /**
   * Shows a meeting.
   * @param {import('./meeting-state.js').MeetingState} state
   * @param {import('./own-media.js').OwnMedia} own
   */
  show(state, own) {
    const shown = new Set();
    for (const person of others(state)) {
      shown.add(this.#showPerson(person, 'camera', state));
      if (trackOf(person, 'screen')) {
        shown.add(this.#showPerson(person, 'screen', state));
      }
    }
    const you = state.people.find((person) => person.id === state.you);
    if (you) {
      shown.add(this.#showOwn('camera', you, own, state));
      if (own.screen) {
        shown.add(this.#showOwn('screen', you, own, state));
      }
    }
    for (const [key, tile] of this.#tiles) {
      if (!shown.has(key)) {
        tile.video.srcObject = null;
        tile.element.remove();
        this.#tiles.delete(key);
      }
    }
    this.#layOutSoon();
  }

  /**
   * Takes note of what is received, for the next `show`.
   * @param {Map<string, MediaStreamTrack>} tracks by track id
   */
  setReceived(tracks) {
    this.#received = tracks;
  }

  #showPerson(person, source, state) {
    const tile = this.#tile(`${person.id}/${source}`, source);
    const { element } = tile;
    element.dataset.person = person.id;
    element.dataset.name = person.name;
    element.dataset.muted = String(isMuted(person));
    element.dataset.speaking = String(source === 'camera' && state.speaking.includes(person.id));
    element.dataset.dominant = String(source === 'camera' && state.dominant === person.id);
    const track = trackOf(person, source);
    tile.trackId = track?.id ?? '';
    this.#showPicture(tile, this.#received.get(track?.id) ?? null, isVisible(person, source));
    const paused = isVisible(person, source) && hasNoRoom(state, track?.id);
    const away = isAway(person);
    element.dataset.paused = String(paused);
    element.dataset.away = String(away);
    tile.cameraMark.hidden = !person.camera;
    tile.pauseNote.textContent = away ? CAMERA_AWAY : TOO_SLOW;
    tile.pauseNote.hidden = !paused && !away;
    this.#showName(tile, shownName(person), person.id, source === 'screen' ? `${shownName(person)}’s screen` : shownName(person));
    return `${person.id}/${source}`;
  }

  #showOwn(source, you, own, state) {
    const tile = this.#tile(`you/${source}`, source);
    const { element } = tile;
    element.dataset.self = 'true';
    element.dataset.muted = String(!own.isHeard);
    element.dataset.speaking = String(source === 'camera' && own.isHeard && state.speaking.includes(you.id));
    this.#showPicture(tile, own[source], own[source] !== null);
    this.#showName(tile, shownName(you), you.id, source === 'screen' ? 'Your screen' : `${shownName(you)} (you)`);
    return `you/${source}`;
  }

  #showPicture(tile, track, visible) {
    if (tile.track !== track) {
      tile.track = track;
      tile.element.dataset.picture = 'false';
      tile.video.srcObject = track ? new MediaStream([track]) : null;
      if (track) {
        tile.video.play().catch(() => {});
      }
    }
    tile.element.dataset.visible = String(visible);
  }

  #showName(tile, name, id, label) {
    if (tile.label.textContent !== label) {
      tile.label.textContent = label;
      tile.avatar.textContent = initials(name);
      tile.element.setAttribute('aria-label', label);
      tile.element.style.setProperty('--hue', String(hueOf(id + name)));
    }
  }

  #tile(key, source) {
    let tile = this.#tiles.get(key);
    if (!tile) {
      tile = makeTile(source);
      this.#tiles.set(key, tile);
      this.#stage.append(tile.element);
    }
    return tile;
  }

  #layOutSoon() {
    // A page in the background gets no frames, but should be in order when it is looked at.
    if (document.hidden) {
      this.#layOut();
      return;
    }
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      this.#layOut();
    });
  }

  #layOut() {
    const tiles = [...this.#tiles.values()];
    // One's own screen goes to the cameras' strip: on the stage it would show itself in itself.
    const onStage = (tile) => tile.element.dataset.source === 'screen' && !tile.element.dataset.self;
    const screens = tiles.filter(onStage);
    const cameras = tiles.filter((tile) => !onStage(tile));
    const { clientWidth: width, clientHeight: height } = this.#stage;
    if (width === 0 || height === 0) {
      return;
    }
    const gap = width < 600 ? 6 : 12;
    const rects = arrange({ width, height, screens: screens.length, cameras: cameras.length, gap });
    screens.forEach((tile, index) => place(tile, rects.screens[index], true));
    cameras.forEach((tile, index) => place(tile, rects.cameras[index], false));
    this.#onLayout(tiles.filter((tile) => tile.trackId).map(({ element, trackId, height }) => ({
      track: trackId,
      person: element.dataset.person,
      source: element.dataset.source,
      heightPx: height * devicePixelRatio,
    })));
  }
}

function place(tile, rect, onStage) {
  const { element } = tile;
  const { style } = element;
  tile.height = rect.height;
  style.setProperty('--x', `${rect.x.toFixed(1)}px`);
  style.setProperty('--y', `${rect.y.toFixed(1)}px`);
  style.width = `${rect.width.toFixed(1)}px`;
  style.height = `${rect.height.toFixed(1)}px`;
  element.classList.toggle('on-stage', onStage);
  element.classList.toggle('small', rect.width < 190);
  element.classList.add('placed');
}

function makeTile(source) {
  const element = document.createElement('article');
  element.className = 'tile';
  element.dataset.source = source;
  const avatar = document.createElement('span');
  avatar.className = 'avatar';
  avatar.setAttribute('aria-hidden', 'true');
  const video = document.createElement('video');
  video.autoplay = true;
  video.muted = true;
  video.playsInline = true;
  video.disablePictureInPicture = source === 'camera';
  const caption = document.createElement('p');
  caption.className = 'caption';
  const label = document.createElement('span');
  const muted = document.createElement('span');
  muted.className = 'muted-mark';
  muted.title = 'Muted';
  muted.append(makeIcon('mic-off'));
  const cameraMark = document.createElement('span');
  cameraMark.className = 'camera-mark';
  cameraMark.title = 'A camera';
  cameraMark.hidden = true;
  cameraMark.append(makeIcon('camera'));
  caption.append(muted, cameraMark, label);
  const pauseNote = document.createElement('p');
  pauseNote.className = 'pause-note';
  pauseNote.hidden = true;
  element.append(avatar, video, pauseNote, caption);
  const onPicture = () => {
    element.dataset.picture = String(video.videoWidth > 0);
  };
  video.addEventListener('loadeddata', onPicture);
  video.addEventListener('resize', onPicture);
  if (source === 'screen') {
    element.addEventListener('dblclick', () => toggleFullscreen(element));
  }
  return { element, avatar, video, label, cameraMark, pauseNote, track: null, trackId: '', height: 0 };
}

function toggleFullscreen(element) {
  if (document.fullscreenElement) {
    document.exitFullscreen();
  } else {
    element.requestFullscreen?.().catch(() => {});
  }
}
