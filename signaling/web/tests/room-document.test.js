import assert from 'node:assert/strict';
import test from 'node:test';
import { EMPTY_ROOM, peopleWith, readRoom, roomMessages } from '../js/room-document.js';
import { EMPTY, reduce } from '../js/meeting-state.js';

const person = (id, ...tracks) => ({ id, name: id.toUpperCase(), tracks });
const track = (id, muted = false) => ({ id, source: 'camera', kind: 'video', muted });
const line = (n, text) => ({ n, from: 'a', name: 'A', text });

test('a room that says nothing, or nonsense, is empty', () => {
  for (const fields of [null, {}, { people: 'x', speaking: '{}', chat: '[1,null]' }, { people: 7, chat: '"a"' }]) {
    assert.deepEqual(readRoom(fields), EMPTY_ROOM);
  }
});

test('oneself is added once', () => {
  const room = { ...EMPTY_ROOM, people: [person('a')] };
  assert.deepEqual(peopleWith(room, { id: 'a', name: 'other' }), room.people);
  assert.deepEqual(peopleWith(room, { id: 'b', name: 'B' }).map(({ id }) => id), ['a', 'b']);
});

test('the messages between any two views lead from one to the other', () => {
  const views = [
    { people: [], speaking: [], chat: [] },
    { people: [person('a', track('1')), person('you')], speaking: ['a'], chat: [line(1, 'x')] },
    { people: [person('a', track('1', true)), person('b')], speaking: [], chat: [line(1, 'x'), line(2, 'y')] },
    { people: [person('you', track('3')), person('b', track('2'))], speaking: ['b', 'you'], chat: [line(2, 'y'), line(3, 'z')] },
    { people: [{ ...person('b'), name: 'Bob' }], speaking: [], chat: [] },
    { people: [{ ...person('gate', track('7')), camera: 'playing' }], speaking: [], chat: [] },
    { people: [{ ...person('gate', track('7')), camera: 'away' }], speaking: [], chat: [] },
  ];
  const you = { id: 'you', name: 'YOU' };
  for (const before of views) {
    for (const after of views) {
      const joined = { type: 'joined', you: 'you', room: 'r', people: peopleWith(before, you) };
      const state = [joined, ...roomMessages(before, after, 'you')].reduce(reduce, EMPTY);
      const others = (people) => people.filter(({ id }) => id !== 'you').sort((a, b) => a.id.localeCompare(b.id));
      assert.deepEqual(others(state.people), others(after.people));
      assert.ok(state.people.some(({ id }) => id === 'you'), 'oneself stays');
    }
  }
});

test('lines are told once, and those of another node that counts anew too', () => {
  const view = (...chat) => ({ ...EMPTY_ROOM, chat });
  const texts = (before, after) => roomMessages(before, after, 'you').map(({ text }) => text);
  assert.deepEqual(texts(view(line(1, 'x')), view(line(1, 'x'), line(2, 'y'))), ['y']);
  assert.deepEqual(texts(view(line(1, 'x')), view(line(1, 'x'))), []);
  assert.deepEqual(texts(view(line(8, 'x')), view(line(1, 'new'))), ['new']);
  assert.deepEqual(texts(view(line(8, 'x')), view()), []);
});
