import assert from 'node:assert/strict';
import test from 'node:test';
import { splitLinks } from '../js/chat.js';
import { explain, explainAll } from '../js/devices.js';
import { loudness } from '../js/level-meter.js';

test('links in a message, without the full stop after them', () => {
  assert.deepEqual(splitLinks('see https://a.org/x?y=1. Then'), [
    { text: 'see ', link: false }, { text: 'https://a.org/x?y=1', link: true }, { text: '. Then', link: false }]);
  assert.deepEqual(splitLinks('javascript:alert(1)'), [{ text: 'javascript:alert(1)', link: false }]);
  assert.deepEqual(splitLinks(''), []);
});

test('every device trouble has a sentence; a cancelled screen choice has none', () => {
  for (const name of ['NotAllowedError', 'NotFoundError', 'NotReadableError', 'SecurityError', 'Whatever']) {
    assert.match(explain('camera', { name }), /camera.*\.$/u);
  }
  assert.equal(explain('screen', { name: 'NotAllowedError' }), '');
});

test('the same trouble with both devices is said once', () => {
  const missing = { name: 'NotFoundError' };
  assert.equal(explainAll({ camera: null, microphone: null }), '');
  assert.match(explainAll({ camera: missing, microphone: missing }), /^No camera and no microphone/u);
  assert.equal(explainAll({ camera: missing, microphone: null }), explain('camera', missing));
  assert.match(explainAll({ camera: missing, microphone: { name: 'NotAllowedError' } }), /camera.*microphone/u);
});

test('loudness runs from silence to full', () => {
  assert.equal(loudness([]), 0);
  assert.equal(loudness(new Float32Array(64)), 0);
  assert.equal(loudness(new Float32Array(64).fill(1)), 1);
  assert.ok(loudness(new Float32Array(64).fill(0.02)) > 0.3);
});
