import assert from 'node:assert/strict';
import test from 'node:test';
import { CHAT_LINES_MAX, EMPTY, announcement, hasNoRoom, hueOf, initials, isMuted, isVisible, others, reduce, wantedTracks } from '../js/meeting-state.js';

const mic = { id: 't1', source: 'microphone', kind: 'audio', muted: false };
const cam = { id: 't2', source: 'camera', kind: 'video', muted: false };
const screen = { id: 't3', source: 'screen', kind: 'video', muted: false };
const ada = { id: 'a', name: 'Ada', tracks: [mic, cam] };
const me = { id: 'm', name: 'Me', tracks: [{ id: 't9', source: 'camera', kind: 'video', muted: false }] };
const joined = { type: 'joined', you: 'm', room: 'r', token: 'x', people: [ada, me], iceServers: [] };
const after = (...messages) => messages.reduce(reduce, EMPTY);

test('joining shows everybody and asks for the others\' tracks only', () => {
  const state = after(joined);
  assert.deepEqual(others(state).map((person) => person.name), ['Ada']);
  assert.deepEqual(wantedTracks(state).map((track) => [track.id, track.person]), [['t1', 'a'], ['t2', 'a']]);
});

test('people come once, however often it is said, and go with what they said of themselves', () => {
  const bo = { id: 'b', name: 'Bo', tracks: [] };
  let state = after(joined, { type: 'person-joined', person: bo }, { type: 'person-joined', person: bo });
  assert.equal(state.people.length, 3);
  state = reduce(state, { type: 'speaking', people: ['b', 'a'], dominant: 'b' });
  assert.equal(state.dominant, 'b');
  state = reduce(state, { type: 'person-left', id: 'b' });
  assert.deepEqual(state.speaking, ['a']);
  assert.equal(state.dominant, '');
  // A node that does not say, or a room in which nobody spoke.
  assert.equal(reduce({ ...state, dominant: 'a' }, { type: 'speaking', people: [] }).dominant, '');
  assert.equal(state.people.length, 2);
});

test('tracks replace the list; muting one keeps it wanted', () => {
  const state = after(joined, { type: 'tracks', id: 'a', tracks: [{ ...mic, muted: true }, screen] });
  const [person] = others(state);
  assert.ok(isMuted(person));
  assert.ok(!isVisible(person, 'camera'));
  assert.ok(isVisible(person, 'screen'));
  assert.deepEqual(wantedTracks(state).map((track) => track.id), ['t1', 't3']);
});

test('somebody without a microphone counts as muted', () => {
  assert.ok(isMuted({ id: 'z', name: '', tracks: [] }));
});

test('a message of unknown type or person changes nothing', () => {
  const state = after(joined);
  assert.equal(reduce(state, { type: 'weather' }), state);
  assert.deepEqual(reduce(state, { type: 'tracks', id: 'nobody', tracks: [mic] }).people, state.people);
});

test('what is sent of a picture is known until the picture is gone', () => {
  const low = { type: 'layer', track: 't2', layer: 0 };
  const paused = { type: 'layer', track: 't2', layer: null, pause: 'no-room' };
  let state = after(joined, low);
  assert.deepEqual(state.layers.get('t2'), { layer: 0, pause: null });
  assert.ok(!hasNoRoom(state, 't2'));
  state = reduce(state, paused);
  assert.ok(hasNoRoom(state, 't2'));
  assert.ok(!hasNoRoom(reduce(state, { ...paused, pause: 'unwanted' }), 't2'));
  assert.ok(!hasNoRoom(state, undefined));
  assert.equal(reduce(state, { type: 'tracks', id: 'a', tracks: [mic, { ...cam, muted: true }] }).layers.size, 1);
  assert.equal(reduce(state, { type: 'tracks', id: 'a', tracks: [mic] }).layers.size, 0);
  assert.equal(reduce(state, { type: 'person-left', id: 'a' }).layers.size, 0);
});

test('what the server thinks of the network holds for its media connection', () => {
  const state = after(joined, { type: 'estimate', bps: 1_234_567 }, { type: 'layer', track: 't2', layer: 1 });
  assert.equal(state.estimate, 1_234_567);
  assert.equal(reduce(state, joined).estimate, 1_234_567, 'the same person is back');
  for (const message of [{ type: 'media-lost', reason: 'x' }, { ...joined, you: 'n' }]) {
    const begun = reduce(state, message);
    assert.equal(begun.estimate, null);
    assert.equal(begun.layers.size, 0);
  }
  assert.equal(EMPTY.layers.size, 0);
});

test('chat stays over a reconnect, goes with the room, and is bounded', () => {
  let state = after(joined, { type: 'chat', from: 'm', name: 'Me', text: 'hi' });
  assert.deepEqual(state.chat, [{ from: 'm', name: 'Me', text: 'hi', mine: true }]);
  assert.equal(reduce(state, joined).chat.length, 1);
  assert.equal(reduce(state, { ...joined, room: 'other' }).chat.length, 0);
  for (let count = 0; count < CHAT_LINES_MAX + 5; count += 1) {
    state = reduce(state, { type: 'chat', from: 'a', name: 'Ada', text: String(count) });
  }
  assert.equal(state.chat.length, CHAT_LINES_MAX);
  assert.equal(state.chat.at(-1).text, String(CHAT_LINES_MAX + 4));
});

test('what is announced aloud', () => {
  const state = after(joined);
  assert.equal(announcement(state, { type: 'person-joined', person: { id: 'b', name: '' } }), 'Guest joined');
  assert.equal(announcement(state, { type: 'person-left', id: 'a' }), 'Ada left');
  assert.equal(announcement(state, { type: 'tracks', id: 'a', tracks: [mic, cam, screen] }), 'Ada shares their screen');
  assert.equal(announcement(state, { type: 'tracks', id: 'a', tracks: [mic] }), '');
  assert.equal(announcement(state, { type: 'chat', from: 'm', name: 'Me', text: 'x' }), '');
});

test('initials and colours', () => {
  assert.equal(initials('Ada Maria Brook'), 'AB');
  assert.equal(initials('ada'), 'A');
  assert.equal(initials('  '), '?');
  assert.equal(initials('🦦 otter'), '🦦O');
  assert.equal(hueOf('Ada'), hueOf('Ada'));
  assert.ok(hueOf('x'.repeat(200)) < 360);
});
