import assert from 'node:assert/strict';
import test from 'node:test';
import { cleanRoomName, friendlyRoomName, readAddress, roomLink } from '../js/room-name.js';

const ALLOWED = /^[A-Za-z0-9_-]{1,64}$/u;

test('what people type becomes an allowed name', () => {
  assert.equal(cleanRoomName(' Team meeting '), 'Team-meeting');
  assert.equal(cleanRoomName('Café/1'), 'Cafe-1');
  assert.equal(cleanRoomName('<b>'), 'b');
  assert.equal(cleanRoomName('会议'), '');
  assert.equal(cleanRoomName('x'.repeat(100)).length, 64);
});

test('friendly names are allowed names', () => {
  for (const value of [0, 0.5, 0.999999]) {
    assert.match(friendlyRoomName(() => value), ALLOWED);
  }
});

test('addresses', () => {
  assert.deepEqual(readAddress({ pathname: '/r/team', search: '' }), { room: 'team', name: '', join: false });
  assert.deepEqual(readAddress({ pathname: '/', search: '?room=R&name=N&join=1' }), { room: 'R', name: 'N', join: true });
  assert.deepEqual(readAddress({ pathname: '/r/%E0%A4%A', search: '' }).room, 'E0A4A');
  assert.equal(roomLink('https://x.org', 'team'), 'https://x.org/r/team');
});
