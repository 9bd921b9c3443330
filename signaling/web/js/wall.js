/**
 * The wall: every camera of a room in a grid, each asked for at the size at which it is shown.
 *
 * For tests and other programs that drive the page, kept stable: `<body data-state="connecting|showing|ended">`; a camera
 * is `<article data-person="ID" data-name="N" data-source="camera" data-state="connecting|idle|playing|away|refused"
 * data-picture="true|false">` with a `<video>`; `window.millrace`: `pc` the RTCPeerConnection, `people()`, `layers()` what
 * is sent of each track.
 */

import { Call } from './call.js';
import { ASPECT_MAX, gridRects } from './layout.js';
import { hasNoRoom } from './meeting-state.js';
import { Signal } from './signal.js';
import { keepAwake } from './wake-lock.js';
import { WALL_NAME, eyesOf, roomOfWall, wantedPictures, wordFor } from './wall-state.js';

const GAP_PX = 4;
/** A wall that was turned away knocks again: it hangs where nobody presses a button. */
const KNOCK_AGAIN_MS = 10_000;

const wall = document.getElementById('wall');
const note = document.getElementById('note');
const room = roomOfWall(location.pathname);
const tiles = new Map();
let received = new Map();
let trouble = '';
let frame = 0;

const scheme = location.protocol === 'https:' ? 'wss:' : 'ws:';
const call = new Call((on) => new Signal({ url: `${scheme}//${location.host}/v1/ws`, on }), wantedPictures);

window.millrace = {
  get pc() {
    return call.session.pc;
  },
  people: () => call.state.people,
  layers: () => Object.fromEntries(call.state.layers),
};

document.title = `${room} · Millrace`;
call.addEventListener('joined', () => {
  document.body.dataset.state = 'showing';
  keepAwake(true);
  say('');
});
call.addEventListener('change', () => show());
call.addEventListener('receivers', ({ detail }) => {
  received = detail.tracks;
  show();
});
call.addEventListener('media', ({ detail: { state } }) => {
  if (state !== 'connecting') {
    say(state === 'lost' ? 'Pictures are interrupted. Looking for another way…' : '');
  }
});
call.addEventListener('interrupted', () => say('The server does not answer. Trying again…'));
call.addEventListener('ended', ({ detail: { reason } }) => {
  document.body.dataset.state = 'ended';
  say(reason ? `${reason[0].toUpperCase()}${reason.slice(1)}.` : 'The server closed the connection.');
  setTimeout(() => call.join(room, WALL_NAME), KNOCK_AGAIN_MS);
});
new ResizeObserver(() => layOutSoon()).observe(wall);
document.addEventListener('fullscreenchange', () => layOutSoon());
window.addEventListener('online', () => call.networkChanged());
window.addEventListener('pagehide', () => call.leave(true));
window.addEventListener('pageshow', (event) => event.persisted && location.reload());
call.join(room, WALL_NAME);

function say(text) {
  trouble = text;
  showNote();
}

function showNote() {
  const empty = tiles.size === 0 && document.body.dataset.state === 'showing';
  note.textContent = trouble || (empty ? `There is no camera in the room ${room} yet.` : '');
  note.hidden = note.textContent === '';
  document.body.dataset.eyes = tiles.size > 0 ? 'some' : 'none';
}

function show() {
  const eyes = eyesOf(call.state);
  const ids = new Set(eyes.map((eye) => eye.id));
  for (const [id, tile] of tiles) {
    if (!ids.has(id)) {
      tile.video.srcObject = null;
      tile.element.remove();
      tiles.delete(id);
    }
  }
  for (const eye of eyes) {
    const tile = tiles.get(eye.id) ?? makeTile(eye.id);
    showEye(tile, eye);
    // The order of the names is that of the tab key, too.
    if (wall.children[eyes.indexOf(eye)] !== tile.element) {
      wall.insertBefore(tile.element, wall.children[eyes.indexOf(eye)] ?? null);
    }
  }
  showNote();
  layOutSoon();
}

function showEye(tile, eye) {
  const { element, video, name } = tile;
  tile.eye = eye;
  element.dataset.name = eye.name;
  element.dataset.state = eye.state;
  element.setAttribute('aria-label', eye.name);
  name.textContent = eye.name;
  const track = received.get(eye.track) ?? null;
  // A track that is gone leaves its last picture, as long as there is no other.
  if (track && tile.track !== track) {
    tile.track = track;
    video.srcObject = new MediaStream([track]);
    video.play().catch(() => {});
  }
  showWord(tile);
}

function showWord({ element, state, eye }) {
  const picture = element.dataset.picture === 'true';
  state.textContent = wordFor(eye.state, { track: eye.track, picture, paused: hasNoRoom(call.state, eye.track) });
  state.hidden = state.textContent === '';
}

function layOutSoon() {
  frame ||= requestAnimationFrame(() => {
    frame = 0;
    layOut();
  });
}

function layOut() {
  const area = { x: 0, y: 0, width: wall.clientWidth, height: wall.clientHeight };
  const shown = eyesOf(call.state).map((eye) => tiles.get(eye.id)).filter(Boolean);
  const rects = gridRects(shown.length, area, GAP_PX, { widthMin: 0, aspectMin: ASPECT_MAX });
  shown.forEach((tile, index) => place(tile, rects[index]));
  call.wishes?.show(shown.filter((tile) => tile.eye.track).map((tile) => ({
    track: tile.eye.track,
    person: tile.eye.id,
    source: 'camera',
    heightPx: (document.fullscreenElement === tile.element ? screen.height : tile.height) * devicePixelRatio,
  })), []);
}

function place(tile, rect) {
  const { style } = tile.element;
  tile.height = rect.height;
  style.setProperty('--x', `${rect.x.toFixed(1)}px`);
  style.setProperty('--y', `${rect.y.toFixed(1)}px`);
  style.width = `${rect.width.toFixed(1)}px`;
  style.height = `${rect.height.toFixed(1)}px`;
  tile.element.classList.add('placed');
}

function makeTile(id) {
  const element = document.createElement('article');
  element.className = 'eye';
  element.tabIndex = 0;
  Object.assign(element.dataset, { person: id, source: 'camera', picture: 'false' });
  const video = document.createElement('video');
  Object.assign(video, { autoplay: true, muted: true, playsInline: true });
  const state = document.createElement('p');
  state.className = 'state';
  const name = document.createElement('p');
  name.className = 'name';
  element.append(video, state, name);
  const tile = { element, video, state, name, eye: null, track: null, height: 0 };
  const onPicture = () => {
    element.dataset.picture = String(video.videoWidth > 0);
    showWord(tile);
  };
  video.addEventListener('loadeddata', onPicture);
  video.addEventListener('resize', onPicture);
  element.addEventListener('click', () => toggleFullscreen(element));
  element.addEventListener('keydown', (event) => event.key === 'Enter' && toggleFullscreen(element));
  tiles.set(id, tile);
  return tile;
}

function toggleFullscreen(element) {
  if (document.fullscreenElement) {
    document.exitFullscreen();
  } else {
    element.requestFullscreen?.().catch(() => {});
  }
}
