/**
 * The meeting page of Millrace: this file ties the parts together.
 *
 * For tests and other programs that drive the page, kept stable:
 *
 * - `?room=R&name=N&join=1` joins at once; `&camera=0` and `&mic=0` join with them off;
 *   `&signal=websocket` joins over the WebSocket though the page has a Firebase configuration;
 * - `<body data-state="lobby|joining|in-meeting|left|error">`;
 * - a remote tile is `<article data-person="ID" data-name="N" data-source="camera|screen" data-speaking="true|false"
 *   data-dominant="true|false" data-muted="true|false" data-away="true|false" data-picture="true|false" data-paused="true|false">` with a `<video>`; one's own has `data-self="true"` and no `data-person`;
 *   remote sound plays in `<audio data-person="ID" data-source="microphone|screen-audio">`;
 * - buttons and fields: `#join #mute #camera #share #leave #chat-open #people-open #info-open #chat-input #chat-send`;
 *   one message of the chat is a `.chat-message`;
 * - in the connection panel a picture that is received is `#info-body li[data-person=ID][data-source]`, with a `<select>`
 *   whose values are `auto`, `best` and the numbers of lower qualities;
 * - `window.millrace`: `pc` the RTCPeerConnection, `stats()` a promise of a Summary (see stats.js),
 *   `estimate()` what the server thinks that this network carries, bits per second or null,
 *   `restartIce()`, `people()` the people in the room with their tracks, `you()` one's own id,
 *   `signal` `websocket` or `firestore`.
 */

import { Call } from './call.js';
import { Chat } from './chat.js';
import { Controls } from './controls.js';
import { Database, embeddedConfiguration } from '../contract/firebase.js';
import { DeviceFields } from './device-fields.js';
import { CAMERA_ENCODINGS, SCREEN_ENCODINGS, cameraBudget, only } from './encodings.js';
import { FirestoreSignal } from './firestore-signal.js';
import { InfoPanel } from './info-panel.js';
import { LevelMeter } from './level-meter.js';
import { Lobby } from './lobby.js';
import { announcement, wantedTracks } from './meeting-state.js';
import { announce, banner, toast } from './notices.js';
import { OwnMedia } from './own-media.js';
import { Panels } from './panels.js';
import { showPeople } from './people-list.js';
import { RemoteAudio } from './remote-audio.js';
import { recall, remember } from './remembered.js';
import { readAddress, roomLink } from './room-name.js';
import { Signal } from './signal.js';
import { StatsReader } from './stats.js';
import { Tiles } from './tiles.js';
import { keepAwake } from './wake-lock.js';
import { warmUp } from './warm-up.js';

const byId = (id) => document.getElementById(id);
const address = readAddress(location);
const query = new URLSearchParams(location.search);

const own = new OwnMedia();
const firebase = query.get('signal') === 'websocket' ? null : embeddedConfiguration(document);
const call = new Call((on) => (firebase
  ? new FirestoreSignal({ open: () => Database.open(firebase), on })
  : new Signal({ url: `${location.protocol === 'https:' ? 'wss:' : 'ws:'}//${location.host}/v1/ws`, on })));
const tiles = new Tiles(byId('stage'), (shown) => call.wishes?.show(shown, call.state.speaking, call.state.dominant));
const sound = new RemoteAudio(byId('audio'), (blocked) => {
  byId('hear').hidden = !blocked;
});
const stats = new StatsReader(() => call.session.pc, describe);
const info = new InfoPanel(byId('info-body'), { read: () => stats.read(), state: () => call.state, wishes: call.wishes });
const chat = new Chat((text) => call.chat(text) || (toast('Not connected: the message was not sent.'), false));
const panels = new Panels(onPanel);
const controls = new Controls(own, perform);
const devices = new DeviceFields(own, (deviceId) => sound.useSpeaker(deviceId));
const lobby = new Lobby({ own, address, onJoin: join });
const barMeter = new LevelMeter((level) => byId('mute').style.setProperty('--level', level.toFixed(2)));
const dialogMeter = new LevelMeter((level) => byId('dialog-level').firstElementChild.style.setProperty('--level', level.toFixed(3)));

const cameraAndMicrophone = new MediaStream();
const screenStream = new MediaStream();
let place = { room: address.room, name: address.name };
let received = new Map();
let mediaWasUp = false;

window.millrace = {
  get pc() {
    return call.session.pc;
  },
  stats: () => stats.read(),
  restartIce: () => call.session.restartIce(),
  estimate: () => call.state.estimate,
  people: () => call.state.people,
  you: () => call.state.you,
  signal: firebase ? 'firestore' : 'websocket',
};

begin();

function begin() {
  if (!globalThis.RTCPeerConnection || !globalThis.WebSocket) {
    showEnd('error', 'This browser cannot do it', 'Millrace needs WebRTC. A current Chrome, Edge, Firefox or Safari has it.');
    byId('rejoin').hidden = true;
    return;
  }
  own.wants.camera = query.has('camera') ? query.get('camera') !== '0' : recall('camera-on') !== 'no';
  own.wants.microphone = query.has('mic') ? query.get('mic') !== '0' : recall('microphone-on') !== 'no';
  lobby.show();
  if (address.join && address.room) {
    join(address.room, address.name);
  } else {
    call.prepare();
    warmUp().then((certificate) => {
      call.session.certificate = certificate;
    });
  }
  own.open().then(() => devices.refresh());
}

function setState(state) {
  document.body.dataset.state = state;
  keepAwake(state === 'in-meeting');
  lobby.setBusy(state === 'joining');
  showOwn();
}

function join(room, name) {
  place = { room, name };
  setState('joining');
  call.join(room, name);
}

function leave() {
  call.leave();
  afterMeeting();
  showEnd('left', 'You left the meeting', `The room ${place.room} stays open for the others.`);
}

function afterMeeting() {
  panels.close();
  own.close();
  sound.play([]);
  mediaWasUp = false;
  received = new Map();
  document.querySelectorAll('dialog[open]').forEach((dialog) => dialog.close());
  banner('');
  byId('hear').hidden = true;
  tiles.show(call.state, own);
}

function showEnd(state, title, text) {
  byId('ended-title').textContent = title;
  byId('ended-text').textContent = text;
  setState(state);
  byId('rejoin').focus();
}

// What the meeting does.

call.addEventListener('publish', () => ['microphone', 'camera', 'screen'].forEach(publish));

call.addEventListener('joined', () => {
  const { room, you, people } = call.state;
  if (document.body.dataset.state !== 'in-meeting') {
    history.replaceState(null, '', `/r/${encodeURIComponent(room)}`);
    document.title = `${room} · Millrace`;
    byId('room-name').textContent = room;
    setState('in-meeting');
    byId('stage').focus({ preventScroll: true });
    announce(people.length > 1 ? `You are in ${room} with ${people.length - 1} others` : `You are in ${room}, the first one here`);
  }
  place.name = people.find((person) => person.id === you)?.name ?? place.name;
  banner('');
});

call.addEventListener('change', ({ detail: { before, message } }) => {
  if (message.type === 'estimate') {
    // Only the connection panel shows it, which renews itself.
    return;
  }
  announce(announcement(before, message));
  if (message.type === 'chat') {
    chat.add(call.state.chat.at(-1));
  } else if (message.type === 'joined' && before.room !== message.room) {
    chat.clear();
  } else if (message.type === 'person-joined' || message.type === 'person-left') {
    call.session.setEncodings('camera', cameraEncodings());
  }
  showMeeting();
});

call.addEventListener('receivers', ({ detail }) => {
  received = detail.tracks;
  showMeeting();
});

call.addEventListener('media', ({ detail: { state } }) => {
  if (state === 'connected') {
    mediaWasUp = true;
    banner('');
  } else if (state === 'lost') {
    banner(mediaWasUp ? 'Sound and picture are interrupted. Looking for another way…' : 'Sound and picture do not get through yet. Still trying…');
  }
});

call.addEventListener('interrupted', ({ detail: { attempt } }) => {
  if (document.body.dataset.state === 'joining') {
    lobby.showError('The server does not answer. Trying again…');
  } else if (attempt > 1) {
    banner('The connection to the server is interrupted. Trying again…');
  }
});

call.addEventListener('ended', ({ detail: { code, reason } }) => {
  afterMeeting();
  const [title, text] = endingOf(code, reason);
  showEnd('error', title, text);
});

call.addEventListener('notice', ({ detail }) => toast(detail.text));

function endingOf(code, reason) {
  const detail = reason ? `${reason[0].toUpperCase()}${reason.slice(1)}.`.replace(/\.\.$/u, '.') : '';
  if (code === 4009) {
    return ['There is no place left', detail || 'The room is full. Try again later, or take another room.'];
  }
  if (code === 4010) {
    return ['The meeting is over', detail || 'The room was closed.'];
  }
  return ['You could not join', detail || `The server closed the connection (${code}).`];
}

function showMeeting() {
  const { state } = call;
  tiles.setReceived(received);
  tiles.show(state, own);
  showPeople(byId('people-list'), state);
  byId('people-count').textContent = String(state.people.length);
  byId('people-open').setAttribute('aria-label', `People, ${state.people.length} (p)`);
  byId('alone').hidden = state.people.length !== 1;
  sound.play(wantedTracks(state)
    .filter((track) => track.kind === 'audio' && received.has(track.id))
    .map(({ id, person, source }) => ({ id, person, source, track: received.get(id) })));
}

function describe(mid) {
  const { source, track } = call.session.describe(mid);
  if (!track) {
    return { source };
  }
  const wanted = wantedTracks(call.state).find((other) => other.id === track);
  return { track, source: wanted?.source, person: wanted?.person, name: wanted?.name };
}

// What the person does.

own.addEventListener('change', ({ detail: { source } }) => {
  showOwn();
  publish(source);
});

own.addEventListener('trouble', ({ detail: { text } }) => {
  lobby.show();
  controls.show();
  if (document.body.dataset.state === 'in-meeting') {
    toast(text);
  }
});

function showOwn() {
  const inMeeting = document.body.dataset.state === 'in-meeting';
  lobby.show();
  controls.show();
  barMeter.watch(inMeeting && own.isHeard ? own.microphone : null);
  if (byId('devices-dialog').open) {
    dialogMeter.watch(own.microphone);
  }
  if (inMeeting) {
    tiles.show(call.state, own);
  }
}

/** Brings one own source to the connection as it is now. */
function publish(source) {
  if (!call.state.you) {
    return;
  }
  const { session } = call;
  if (source === 'screen') {
    publishScreen();
  } else if (own[source] || session.sends(source)) {
    const kind = source === 'camera' ? 'video' : 'audio';
    const muted = source === 'camera' ? own.camera === null : !own.isHeard;
    const encodings = source === 'camera' ? cameraEncodings() : undefined;
    session.setSource(source, { kind, track: own[source], stream: cameraAndMicrophone, muted, encodings });
  }
}

function publishScreen() {
  const pictures = call.wishes ? SCREEN_ENCODINGS : [only(SCREEN_ENCODINGS)];
  const shares = [['screen', 'video', own.screen, pictures], ['screen-audio', 'audio', own.screenAudio, undefined]];
  for (const [source, kind, track, encodings] of shares) {
    if (track) {
      call.session.setSource(source, { kind, track, stream: screenStream, muted: false, encodings });
    } else {
      call.session.removeSource(source);
    }
  }
}

/** Several encodings where receivers can choose; otherwise one that suits a room of this size. */
function cameraEncodings() {
  return call.wishes ? CAMERA_ENCODINGS : [cameraBudget(call.state.people.length)];
}

function perform(action) {
  switch (action) {
    case 'mute': {
      const on = !own.isHeard;
      remember('microphone-on', on ? 'yes' : 'no');
      own.setMicrophone(on).then(() => announce(own.isHeard ? 'Microphone on' : 'Microphone off'));
      break;
    }
    case 'camera': {
      const on = own.camera === null;
      remember('camera-on', on ? 'yes' : 'no');
      own.setCamera(on).then(() => announce(own.camera ? 'Camera on' : 'Camera off'));
      break;
    }
    case 'share':
      own.screen ? own.stopScreen() : own.shareScreen();
      break;
    case 'leave':
      leave();
      break;
    case 'chat':
    case 'people':
    case 'info':
      panels.toggle(action);
      break;
    case 'devices':
      devices.refresh();
      byId('devices-dialog').showModal();
      dialogMeter.watch(own.microphone);
      break;
    case 'help':
      byId('help-dialog').showModal();
      break;
    case 'copy-link':
      copyLink();
      break;
    default:
      panels.close(true);
  }
}

async function copyLink() {
  const link = roomLink(location.origin, place.room);
  try {
    await navigator.clipboard.writeText(link);
    toast('The link to this room is copied.');
  } catch {
    toast(`The link to this room: ${link}`);
  }
}

function onPanel(panel, open) {
  if (panel === 'chat') {
    chat.setOpen(open);
  } else if (panel === 'info') {
    info.setOpen(open);
  }
}

byId('devices-dialog').addEventListener('close', () => dialogMeter.watch(null));
byId('hear').addEventListener('click', () => sound.unblock());
byId('rejoin').addEventListener('click', () => {
  join(place.room, place.name);
  own.open().then(() => devices.refresh());
});
window.addEventListener('online', () => call.networkChanged());
navigator.connection?.addEventListener?.('typechange', () => call.networkChanged());
// A tab that goes away says goodbye; one that comes back from the browser's cache starts over.
window.addEventListener('pagehide', () => call.leave(true));
window.addEventListener('pageshow', (event) => event.persisted && location.reload());
