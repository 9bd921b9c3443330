import assert from 'node:assert/strict';
import test from 'node:test';
import { EMPTY, isAway, isMuted, reduce } from '../js/meeting-state.js';
import { eyesOf, roomOfWall, wantedPictures, wordFor } from '../js/wall-state.js';

const picture = (id) => ({ id, source: 'camera', kind: 'video', muted: false });
const sound = (id) => ({ id, source: 'microphone', kind: 'audio', muted: false });
const ada = { id: 'a', name: 'Ada', tracks: [picture('t1'), sound('t2')] };
const gate = { id: 'g', name: 'Gate 10', tracks: [picture('t3'), sound('t4')], camera: 'playing' };
const yard = { id: 'y', name: 'Gate 9', tracks: [], camera: 'connecting' };
const joined = { type: 'joined', you: 'w', room: 'r', token: 'x', people: [ada, gate, yard, { id: 'w', name: 'Wall', tracks: [] }] };

test('cameras are shown by name, and people are not', () => {
  const state = reduce(EMPTY, joined);
  assert.deepEqual(eyesOf(state), [
    { id: 'y', name: 'Gate 9', state: 'connecting', track: '' },
    { id: 'g', name: 'Gate 10', state: 'playing', track: 't3' },
  ]);
});

test('only pictures of cameras are asked for', () => {
  assert.deepEqual(wantedPictures(reduce(EMPTY, joined)), [{ id: 't3', kind: 'video' }]);
});

test('a camera that goes away is away until it is back, and keeps its track', () => {
  let state = reduce(reduce(EMPTY, joined), { type: 'camera', id: 'g', state: 'away' });
  const [, eye] = eyesOf(state);
  assert.deepEqual([eye.state, eye.track], ['away', 't3']);
  assert.ok(isAway(state.people.find((person) => person.id === 'g')));
  state = reduce(state, { type: 'camera', id: 'g', state: 'playing' });
  assert.equal(eyesOf(state)[1].state, 'playing');
});

test('a camera is not muted only because it has no sound', () => {
  assert.ok(!isMuted(yard));
  assert.ok(isMuted({ id: 'z', name: 'Zoe', tracks: [] }));
});

test('what is written over a camera says why there is no picture', () => {
  const shown = { track: 't3', picture: true, paused: false };
  assert.equal(wordFor('playing', shown), '');
  assert.equal(wordFor('away', shown), 'Away');
  assert.equal(wordFor('refused', { ...shown, picture: false }), 'Cannot be shown');
  assert.equal(wordFor('playing', { ...shown, paused: true }), 'Your connection is too slow');
  assert.equal(wordFor('idle', { ...shown, picture: false }), 'Waiting for a picture');
  assert.equal(wordFor('connecting', { track: '', picture: false, paused: false }), 'Connecting');
  // It is being connected to again while its last picture stands.
  assert.equal(wordFor('connecting', shown), '');
});

test('the room is in the address', () => {
  assert.equal(roomOfWall('/wall/gate-1'), 'gate-1');
  assert.equal(roomOfWall('/wall/gate-1/'), 'gate-1');
  assert.equal(roomOfWall('/wall/a%20b'), '');
  assert.equal(roomOfWall('/r/gate'), '');
});
