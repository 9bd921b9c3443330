import assert from 'node:assert/strict';
import test from 'node:test';
import { WISHES_GATHER_MS, WISHES_PER_S_MAX, Wishes, wishFor } from '../js/wishes.js';

const tile = (track, heightPx, source = 'camera') => ({ track, person: `of ${track}`, source, heightPx });

function setUp(context) {
  context.mock.timers.enable({ apis: ['setTimeout', 'Date'] });
  const sent = [];
  const line = { up: true };
  const wishes = new Wishes((message) => {
    if (line.up) {
      sent.push(message);
    }
    return line.up;
  });
  const take = () => sent.splice(0).map(({ track, most, priority }) => [track, most, priority]);
  const pass = (ms = WISHES_GATHER_MS) => {
    context.mock.timers.tick(ms);
    return take();
  };
  return { wishes, line, pass };
}

test('a picture is wanted as good as its tile is high', () => {
  const heights = [90, 200, 201, 420, 421, 1080];
  assert.deepEqual(heights.map((heightPx) => wishFor({ source: 'camera', heightPx }, {}).most), [0, 0, 1, 1, 'best', 'best']);
  assert.equal(wishFor({ source: 'camera', heightPx: 90 }, { speaks: true }).priority, 1);
  assert.equal(wishFor({ source: 'camera', heightPx: 90 }, { speaks: true, dominates: true }).priority, 2);
  assert.deepEqual(wishFor({ source: 'screen', heightPx: 90 }, {}), { most: 'best', priority: 3 });
  assert.deepEqual(wishFor({ source: 'camera', heightPx: 90 }, {}, 'best'), { most: 'best', priority: 0 });
  assert.deepEqual(wishFor({ source: 'screen', heightPx: 900 }, {}, 0), { most: 0, priority: 3 });
});

test('only what differs from what the server knows is said, once things are quiet', (context) => {
  const { wishes, pass } = setUp(context);
  wishes.setReceived(new Map([['a', '2'], ['b', '3'], ['c', '4']]));
  wishes.show([tile('a', 100), tile('b', 900), tile('c', 900)], []);
  wishes.show([tile('a', 100), tile('b', 900), tile('c', 300)], []);
  assert.deepEqual(pass(WISHES_GATHER_MS - 1), []);
  assert.deepEqual(pass(1), [['a', 0, 0], ['c', 1, 0]]);
  wishes.show([tile('a', 120), tile('b', 900), tile('c', 300)], ['of b']);
  assert.deepEqual(pass(), [['b', 'best', 1]]);
  assert.deepEqual(pass(10_000), []);
  wishes.show([tile('a', 120), tile('b', 900), tile('c', 300)], ['of b', 'of c'], 'of b');
  assert.deepEqual(pass(), [['b', 'best', 2], ['c', 1, 1]]);
});

test('nothing is said of a track before the connection receives it', (context) => {
  const { wishes, pass } = setUp(context);
  wishes.show([tile('a', 100)], []);
  assert.deepEqual(pass(), []);
  wishes.setReceived(new Map([['a', '2']]));
  assert.deepEqual(pass(), [['a', 0, 0]]);
});

test('it is said again for another section and for a new connection', (context) => {
  const { wishes, pass } = setUp(context);
  wishes.show([tile('a', 100), tile('b', 100)], []);
  wishes.setReceived(new Map([['a', '2'], ['b', '3']]));
  assert.equal(pass().length, 2);
  wishes.setReceived(new Map([['a', '5'], ['b', '3']]));
  assert.deepEqual(pass(), [['a', 0, 0]]);
  wishes.setReceived(new Map());
  wishes.setReceived(new Map([['a', '5'], ['b', '3']]));
  assert.equal(pass().length, 2);
});

test('a pin holds whatever the tile does, for the person and not the track', (context) => {
  const { wishes, pass } = setUp(context);
  wishes.setReceived(new Map([['a', '2'], ['z', '3']]));
  wishes.show([tile('a', 100)], []);
  pass();
  wishes.pin('of a', 'camera', 1);
  assert.equal(wishes.pinOf('of a', 'camera'), 1);
  assert.equal(wishes.pinOf('of a', 'screen'), null);
  assert.deepEqual(pass(), [['a', 1, 0]]);
  wishes.show([tile('a', 1000)], []);
  assert.deepEqual(pass(), []);
  wishes.show([{ ...tile('z', 1000), person: 'of a' }], []);
  assert.deepEqual(pass(), [['z', 1, 0]]);
  wishes.pin('of a', 'camera', null);
  assert.deepEqual(pass(), [['z', 'best', 0]]);
});

test('twenty a second at most, and the rest after that', (context) => {
  const { wishes, pass } = setUp(context);
  const tracks = Array.from({ length: 50 }, (_, index) => `t${index}`);
  wishes.setReceived(new Map(tracks.map((track) => [track, track])));
  wishes.show(tracks.map((track) => tile(track, 100)), []);
  assert.equal(pass().length, WISHES_PER_S_MAX);
  assert.equal(pass(999).length, 0);
  assert.equal(pass(1).length, WISHES_PER_S_MAX);
  assert.equal(pass(1_000).length, 10);
  assert.equal(pass(5_000).length, 0);
});

test('after a broken connection everything is said again', (context) => {
  const { wishes, line, pass } = setUp(context);
  wishes.setReceived(new Map([['a', '2'], ['b', '3']]));
  wishes.show([tile('a', 100), tile('b', 900)], []);
  line.up = false;
  assert.deepEqual(pass(), []);
  line.up = true;
  wishes.repeat();
  assert.deepEqual(pass(), [['a', 0, 0], ['b', 'best', 0]]);
  wishes.clear();
  assert.deepEqual(pass(10_000), []);
});
