import assert from 'node:assert/strict';
import test from 'node:test';
import { planReceivers } from '../js/receivers.js';

const slot = (kind, idle) => ({ kind, idle });

test('new tracks get new slots', () => {
  const plan = planReceivers([{ id: 'a', kind: 'audio' }, { id: 'b', kind: 'video' }], new Map(), []);
  assert.deepEqual(plan.release, []);
  assert.deepEqual(plan.assign.map(({ id, slot: used }) => [id, used]), [['a', null], ['b', null]]);
});

test('an idle slot of the same kind is used again, each once', () => {
  const free = slot('video', true);
  const plan = planReceivers([{ id: 'a', kind: 'audio' }, { id: 'b', kind: 'video' }, { id: 'c', kind: 'video' }], new Map(), [free]);
  assert.deepEqual(plan.assign.map((step) => step.slot), [null, free, null]);
});

test('what stays keeps its slot; what goes is released and not given away in the same step', () => {
  const kept = slot('video', false);
  const leaving = slot('video', false);
  const assigned = new Map([['a', kept], ['b', leaving]]);
  const plan = planReceivers([{ id: 'a', kind: 'video' }, { id: 'c', kind: 'video' }], assigned, [kept, leaving]);
  assert.deepEqual(plan.release, ['b']);
  assert.deepEqual(plan.assign, [{ id: 'c', kind: 'video', slot: null }]);
});

test('a slot that is assigned is not idle, whatever the last answer said', () => {
  const refused = slot('video', true);
  const plan = planReceivers([{ id: 'a', kind: 'video' }, { id: 'b', kind: 'video' }], new Map([['a', refused]]), [refused]);
  assert.deepEqual(plan.assign, [{ id: 'b', kind: 'video', slot: null }]);
});
