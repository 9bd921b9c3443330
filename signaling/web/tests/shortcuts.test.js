import assert from 'node:assert/strict';
import test from 'node:test';
import { actionOf } from '../js/shortcuts.js';

const nowhere = { typing: false, onControl: false };
const typing = { typing: true, onControl: false };

test('keys act, letters of both cases', () => {
  assert.equal(actionOf({ key: 'm' }, nowhere), 'mute');
  assert.equal(actionOf({ key: 'V' }, nowhere), 'camera');
  assert.equal(actionOf({ key: '?' }, nowhere), 'help');
  assert.equal(actionOf({ key: 'x' }, nowhere), '');
});

test('writing in the chat mutes nobody, but Escape gets out', () => {
  assert.equal(actionOf({ key: 'm' }, typing), '');
  assert.equal(actionOf({ key: ' ' }, typing), '');
  assert.equal(actionOf({ key: 'Escape' }, typing), 'close');
});

test('the browser keeps its own shortcuts, and a held key acts once', () => {
  assert.equal(actionOf({ key: 's', ctrlKey: true }, nowhere), '');
  assert.equal(actionOf({ key: 'c', metaKey: true }, nowhere), '');
  assert.equal(actionOf({ key: 'm', repeat: true }, nowhere), '');
});

test('space talks, except on a button that it presses', () => {
  assert.equal(actionOf({ key: ' ' }, nowhere), 'talk');
  assert.equal(actionOf({ key: ' ' }, { typing: false, onControl: true }), '');
});
