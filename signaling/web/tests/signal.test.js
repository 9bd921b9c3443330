import assert from 'node:assert/strict';
import test from 'node:test';
import { JOIN_TIMEOUT_MS, Signal, afterClose, retryDelayMs } from '../js/signal.js';

/** A WebSocket that the test plays the server of. */
class FakeSocket {
  sent = [];
  closedWith = 0;
  send(text) {
    this.sent.push(JSON.parse(text));
  }
  close(code) {
    this.closedWith = code;
  }
  say(message) {
    this.onmessage({ data: JSON.stringify(message) });
  }
  break(code) {
    this.onclose({ code, reason: '' });
  }
}

function setUp(context) {
  context.mock.timers.enable({ apis: ['setTimeout'] });
  const sockets = [];
  const events = [];
  const signal = new Signal({
    url: 'ws://x/v1/ws',
    on: (event) => events.push(event),
    openSocket: () => {
      sockets.push(new FakeSocket());
      return sockets.at(-1);
    },
  });
  const welcome = (token) => {
    sockets.at(-1).onopen();
    sockets.at(-1).say({ type: 'joined', you: 'p', room: 'r', token, people: [], iceServers: [] });
  };
  return { signal, sockets, events, welcome, tick: (ms) => context.mock.timers.tick(ms) };
}

test('joins with the room and the name, and speaks only once it is in', (context) => {
  const { signal, sockets, events, welcome } = setUp(context);
  signal.join('r', 'N');
  assert.equal(signal.send({ type: 'chat', text: 'early' }), false);
  welcome('T');
  assert.deepEqual(sockets[0].sent, [{ type: 'join', room: 'r', name: 'N' }]);
  assert.equal(events[0].kind, 'joined');
  assert.equal(events[0].resumed, false);
  assert.equal(signal.send({ type: 'chat', text: 'hi' }), true);
});

test('a broken connection comes back as the same person', (context) => {
  const { signal, sockets, events, welcome, tick } = setUp(context);
  signal.join('r', 'N');
  welcome('T');
  sockets[0].break(1006);
  assert.equal(events.at(-1).kind, 'interrupted');
  tick(600);
  welcome('T2');
  assert.deepEqual(sockets[1].sent, [{ type: 'resume', token: 'T' }]);
  assert.equal(events.at(-1).resumed, true);
});

test('a forgotten token means joining again as a new person', (context) => {
  const { signal, sockets, events, welcome, tick } = setUp(context);
  signal.join('r', 'N');
  welcome('T');
  sockets[0].break(1006);
  tick(600);
  sockets[1].onopen();
  sockets[1].say({ error: 'unknown token', code: 4006 });
  sockets[1].break(4006);
  welcome('T3');
  assert.deepEqual(sockets[2].sent, [{ type: 'join', room: 'r', name: 'N' }]);
  assert.equal(events.at(-1).resumed, false);
});

test('an unreachable server is tried again, later and later', (context) => {
  const { signal, sockets, events, tick } = setUp(context);
  signal.join('r', 'N');
  for (let attempt = 0; attempt < 6; attempt += 1) {
    sockets.at(-1).break(1006);
    tick(10_000);
  }
  assert.equal(sockets.length, 7);
  const delays = events.map((event) => event.delayMs);
  assert.ok(delays[5] > delays[0] * 10);
});

test('a server that accepts but says nothing counts as unreachable', (context) => {
  const { signal, sockets, events, tick } = setUp(context);
  signal.join('r', 'N');
  sockets[0].onopen();
  tick(JOIN_TIMEOUT_MS);
  assert.equal(events.at(-1).kind, 'interrupted');
  assert.notEqual(sockets[0].closedWith, 1000);
});

test('a full room ends it, with the server\'s own words', (context) => {
  const { signal, sockets, events, tick } = setUp(context);
  signal.join('r', 'N');
  sockets[0].onopen();
  sockets[0].say({ error: 'the room is full', code: 4009 });
  sockets[0].break(4009);
  assert.deepEqual(events, [{ kind: 'ended', code: 4009, reason: 'the room is full' }]);
  tick(60_000);
  assert.equal(sockets.length, 1);
});

test('leaving says goodbye and nothing is tried afterwards', (context) => {
  const { signal, sockets, events, welcome, tick } = setUp(context);
  signal.join('r', 'N');
  welcome('T');
  signal.leave();
  assert.deepEqual(sockets[0].sent.at(-1), { type: 'leave' });
  assert.equal(sockets[0].closedWith, 1000);
  tick(60_000);
  assert.equal(sockets.length, 1);
  assert.equal(events.length, 1);
});

test('joining while in a room leaves the old place first', (context) => {
  const { signal, sockets, events, welcome, tick } = setUp(context);
  signal.join('r', 'N');
  welcome('T');
  signal.join('other', 'N');
  assert.equal(sockets[0].closedWith, 1000);
  assert.equal(sockets[0].onclose, null);
  welcome('T2');
  assert.deepEqual(sockets[1].sent, [{ type: 'join', room: 'other', name: 'N' }]);
  tick(60_000);
  assert.equal(sockets.length, 2);
  assert.deepEqual(events.map((event) => event.kind), ['joined', 'joined']);
});

test('close codes', () => {
  assert.equal(afterClose(1006, true), 'retry');
  assert.equal(afterClose(4008, false), 'retry');
  assert.equal(afterClose(4006, true), 'join-again');
  assert.equal(afterClose(4006, false), 'end');
  assert.equal(afterClose(4010, true), 'end');
  assert.ok(retryDelayMs(0, 1) <= 500 && retryDelayMs(50, 1) === 10_000);
});
