import assert from 'node:assert/strict';
import test from 'node:test';
import {
  CAMERA_ENCODINGS, DEMAND_FALLS_AFTER_MS, Demand, SCREEN_ENCODINGS, applyEncodings, cameraBudget, only, sentCount,
} from '../js/encodings.js';

test('encodings come the smallest first and the last is full size', () => {
  for (const encodings of [CAMERA_ENCODINGS, SCREEN_ENCODINGS]) {
    const sizes = encodings.map((encoding) => encoding.scaleResolutionDownBy);
    assert.deepEqual(sizes, [...sizes].sort((a, b) => b - a));
    const rates = encodings.map((encoding) => encoding.maxBitrate);
    assert.deepEqual(rates, [...rates].sort((a, b) => a - b));
    assert.equal(sizes.at(-1), 1);
    assert.equal(only(encodings).rid, undefined);
    assert.equal(only(encodings).maxBitrate, rates.at(-1));
  }
});

test('the more people, the less a camera sends that has one encoding', () => {
  const rates = [1, 2, 3, 5, 9, 10, 40].map((people) => cameraBudget(people).maxBitrate);
  assert.deepEqual(rates, [...rates].sort((a, b) => b - a));
});

test('what is wanted is sent with all below it, and the smallest always', () => {
  assert.deepEqual(['off', 0, 1, 2, 7, 'best'].map((most) => sentCount(most, 3)), [1, 1, 2, 3, 3, 3]);
  assert.equal(sentCount('best', 1), 1);
});

test('a sender gets limits and what is not wanted is off', () => {
  const present = CAMERA_ENCODINGS.map(({ rid }) => ({ rid, active: true, priority: 'low' }));
  assert.ok(applyEncodings(present, CAMERA_ENCODINGS, 1));
  assert.deepEqual(present.map((encoding) => encoding.active), [true, true, false]);
  assert.deepEqual(present.map((encoding) => encoding.maxBitrate), [150_000, 500_000, 1_700_000]);
  assert.deepEqual(present.map((encoding) => encoding.priority), ['low', 'low', 'low']);
  assert.ok(!applyEncodings(present, CAMERA_ENCODINGS, 1), 'the second time nothing is different');
});

test('the one that a browser left of several is the largest, and stays on', () => {
  const present = [{ rid: 'q', active: true, scaleResolutionDownBy: 4, maxBitrate: 150_000 }];
  assert.ok(applyEncodings(present, CAMERA_ENCODINGS, 0));
  assert.deepEqual(present, [{ rid: 'q', active: true, scaleResolutionDownBy: 1, maxBitrate: 1_700_000 }]);
});

function setUp(context) {
  context.mock.timers.enable({ apis: ['setTimeout'] });
  const seen = [];
  const demand = new Demand(() => seen.push(demand.most));
  return { demand, seen, pass: (ms) => context.mock.timers.tick(ms) };
}

test('more is taken at once, less after a while', (context) => {
  const { demand, seen, pass } = setUp(context);
  demand.wish(0);
  pass(DEMAND_FALLS_AFTER_MS - 1);
  assert.equal(demand.most, 'best');
  pass(1);
  assert.deepEqual(seen, [0]);
  demand.wish(1);
  demand.wish('best');
  assert.deepEqual(seen, [0, 1, 'best']);
});

test('a wish for less that does not last changes nothing', (context) => {
  const { demand, seen, pass } = setUp(context);
  demand.wish(0);
  pass(DEMAND_FALLS_AFTER_MS - 1);
  demand.wish('best');
  pass(2 * DEMAND_FALLS_AFTER_MS);
  assert.deepEqual(seen, []);
  // Another wish for less waits for its own time; the same one said again does not wait longer.
  demand.wish(1);
  pass(2_000);
  demand.wish(0);
  pass(2_000);
  demand.wish(0);
  assert.deepEqual(seen, []);
  pass(1_000);
  assert.deepEqual(seen, [0]);
});

test('a new server wants everything until it says otherwise', (context) => {
  const { demand, seen, pass } = setUp(context);
  demand.wish(0);
  pass(DEMAND_FALLS_AFTER_MS);
  demand.wish('off');
  demand.reset();
  pass(DEMAND_FALLS_AFTER_MS);
  assert.equal(demand.most, 'best');
  assert.deepEqual(seen, [0]);
});
