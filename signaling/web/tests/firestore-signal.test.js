import assert from 'node:assert/strict';
import test from 'node:test';
import { Database } from '../contract/firebase.js';
import { decodeDescription, encodeDescription } from '../contract/documents.js';
import { FirestoreSignal } from '../js/firestore-signal.js';
import { JOIN_TIMEOUT_MS } from '../js/signal.js';
import { FakeFirebase, firebaseError } from './fake-firebase.js';

const ROOM = 'requests_rooms/tea';
const ANN = { id: 'ann', name: 'Ann', tracks: [{ id: 'a1', source: 'microphone', kind: 'audio', muted: false }] };

/** Lets every promise that can settle do so, whatever the clock says. */
const settle = async () => {
  for (let turn = 0; turn < 20; turn += 1) {
    await new Promise((done) => { setImmediate(done); });
  }
};

function setUp(context, configuration = {}) {
  context.mock.timers.enable({ apis: ['setTimeout', 'Date'], now: 1_000_000 });
  const firebase = new FakeFirebase();
  const events = [];
  const signal = new FirestoreSignal({
    open: () => Database.open({ projectId: 'p', collection: 'requests', ...configuration }, async () => firebase.modules()),
    on: (event) => events.push(event),
  });
  const you = () => events.findLast((event) => event.kind === 'joined').message.you;
  const path = () => `requests/${you()}`;
  return {
    signal, firebase, events, you, path,
    tick: async (ms) => { context.mock.timers.tick(ms); await settle(); },
    messages: (type) => events.filter((event) => event.message?.type === type).map((event) => event.message),
    join: async () => { signal.join('tea', ' Bea '); await settle(); },
    offer: async (id, sdp = `offer ${id}`) => {
      signal.send({ type: 'offer', id, sdp, sources: { 0: 'microphone' }, wants: { 1: 'a1' } });
      await settle();
    },
    answer: async (sdp = 'answer') => {
      firebase.node(path(), { answer: encodeDescription({ type: 'answer', sdp }), error: '', owner: 'n1' });
      await settle();
    },
    room: async (people, speaking = [], chat = []) => {
      firebase.node(ROOM, { people: JSON.stringify(people), speaking: JSON.stringify(speaking), chat: JSON.stringify(chat) });
      await settle();
    },
  };
}

test('the room is read before the first offer, and oneself is in it', async (context) => {
  const { events, join, room } = setUp(context, { iceServers: [{ urls: ['stun:a'] }] });
  await room([ANN]);
  await join();
  const [{ kind, resumed, message }] = events;
  assert.deepEqual([kind, resumed, message.room], ['joined', false, 'tea']);
  assert.deepEqual(message.people, [ANN, { id: message.you, name: 'Bea', tracks: [] }]);
  assert.deepEqual(message.iceServers, [{ urls: ['stun:a'] }]);
});

test('the first offer is one whole document, and its answer comes back under its number', async (context) => {
  const { firebase, join, offer, answer, path, messages } = setUp(context);
  await join();
  await offer(7);
  const [{ how, fields }] = firebase.writesTo(path());
  assert.equal(how, 'set');
  assert.deepEqual(Object.keys(fields).sort(), ['abort', 'answer', 'kind', 'muted', 'offer', 'parent', 'requestor', 'sources', 'wants']);
  assert.deepEqual([fields.kind, fields.parent, fields.requestor, fields.answer, fields.abort], ['member', 'tea', 'Bea', '', false]);
  assert.deepEqual([fields.sources, fields.wants], [{ 0: 'microphone' }, { 1: 'a1' }]);
  assert.deepEqual(decodeDescription(fields.offer), { type: 'offer', sdp: 'offer 7' });
  await answer('hello');
  await answer('hello');
  assert.deepEqual(messages('answer'), [{ type: 'answer', id: 7, sdp: 'hello' }]);
});

test('a second offer within a second waits its turn, with what else is to be said', async (context) => {
  const { signal, firebase, join, offer, answer, path, tick, messages } = setUp(context);
  await join();
  await offer(1);
  await answer('one');
  await offer(2);
  signal.send({ type: 'mute', source: 'microphone', muted: true });
  signal.send({ type: 'mute', source: 'camera', muted: true });
  await tick(900);
  assert.equal(firebase.writesTo(path()).length, 1);
  await tick(200);
  assert.equal(firebase.writesTo(path()).length, 2);
  const { how, fields } = firebase.writesTo(path())[1];
  assert.equal(how, 'update');
  assert.deepEqual(Object.keys(fields).sort(), ['answer', 'muted', 'offer', 'sources', 'wants']);
  assert.deepEqual(fields.muted, { microphone: true, camera: true });
  await answer('two');
  assert.deepEqual(messages('answer').map(({ id, sdp }) => [id, sdp]), [[1, 'one'], [2, 'two']]);
});

test('no two writes lie within a second, and every line of the chat has its own', async (context) => {
  const { signal, firebase, join, offer, answer, path, tick } = setUp(context);
  await join();
  await offer(1);
  await answer();
  ['a', 'b', 'c'].forEach((text) => signal.send({ type: 'chat', text }));
  for (let step = 0; step < 40; step += 1) {
    await tick(100);
  }
  const writes = firebase.writesTo(path());
  assert.deepEqual(writes.slice(1).map((write) => write.fields.say), [{ n: 1, text: 'a' }, { n: 2, text: 'b' }, { n: 3, text: 'c' }]);
  writes.slice(1).forEach((write, index) => assert.ok(write.at - writes[index].at >= 1000));
});

test('what happens in the room arrives in the words of the protocol', async (context) => {
  const { join, room, you, events } = setUp(context);
  await room([ANN], [], [{ n: 4, from: 'ann', name: 'Ann', text: 'before' }]);
  await join();
  const self = { id: you(), name: 'Bea', tracks: [] };
  const old = { n: 4, from: 'ann', name: 'Ann', text: 'before' };
  const muted = { ...ANN, tracks: [{ ...ANN.tracks[0], muted: true }] };
  events.length = 1;
  await room([ANN, self, { id: 'cid', name: 'Cid', tracks: [] }], [], [old]);
  await room([muted, self, { id: 'cid', name: 'Cid', tracks: [] }], ['cid'], [old, { n: 5, from: 'cid', name: 'Cid', text: 'hi' }]);
  await room([muted, self], [], [old, { n: 5, from: 'cid', name: 'Cid', text: 'hi' }]);
  assert.deepEqual(events.slice(1).map((event) => event.message), [
    { type: 'person-joined', person: { id: 'cid', name: 'Cid', tracks: [] } },
    { type: 'tracks', id: 'ann', tracks: muted.tracks },
    { type: 'speaking', people: ['cid'] },
    { type: 'chat', from: 'cid', name: 'Cid', text: 'hi' },
    { type: 'person-left', id: 'cid' },
    { type: 'speaking', people: [] },
  ]);
});

test('who is refused at the door is told why, in the node\'s words', async (context) => {
  const { firebase, events, join, offer, path } = setUp(context);
  await join();
  await offer(1);
  firebase.node(path(), { error: 'all nodes are full; try again later', owner: 'n1' });
  await settle();
  assert.deepEqual(events.at(-1), { kind: 'ended', code: 4009, reason: 'all nodes are full; try again later' });
  assert.equal(firebase.listenersOf(path()) + firebase.listenersOf(ROOM), 0);
});

test('lost media is offered again in the same document, and the old sentence is not taken for a new one', async (context) => {
  const { firebase, join, offer, answer, path, tick, messages } = setUp(context);
  await join();
  await offer(1);
  await answer('one');
  await tick(2_000);
  const lost = { error: 'the node that served this meeting is gone; offer again', owner: '', expire_at: { seconds: 5, nanoseconds: 0 } };
  firebase.node(path(), lost);
  await settle();
  assert.deepEqual(messages('media-lost').map((message) => message.reason), [lost.error]);
  await offer(2);
  assert.equal(firebase.documents.get(path()).error, lost.error);
  assert.deepEqual(messages('refused'), []);
  await answer('two');
  assert.equal(messages('answer').at(-1).sdp, 'two');
  // The very same sentence once more, from another sweep.
  firebase.node(path(), { ...lost, expire_at: { seconds: 9, nanoseconds: 0 } });
  await settle();
  assert.equal(messages('media-lost').length, 2);
});

test('a later offer that is refused leaves the meeting as it is', async (context) => {
  const { firebase, join, offer, answer, path, tick, messages, events } = setUp(context);
  await join();
  await offer(1);
  await answer();
  await tick(1_500);
  await offer(2);
  firebase.node(path(), { error: 'this offer cannot be served' });
  await settle();
  assert.deepEqual(messages('refused'), [{ type: 'refused', id: 2, error: 'this offer cannot be served' }]);
  assert.ok(events.every((event) => event.kind !== 'ended'));
});

test('a node that goes while it is offered to has lost the session too', async (context) => {
  const { firebase, join, offer, answer, path, tick, messages } = setUp(context);
  await join();
  await offer(1);
  await answer();
  await tick(1_500);
  await offer(2);
  firebase.node(path(), { error: 'the node that served this meeting is gone; offer again', owner: '' });
  await settle();
  assert.equal(messages('media-lost').length, 1);
  assert.deepEqual(messages('refused'), [], 'first the page makes a new connection');
  await tick(1);
  assert.deepEqual(messages('refused').map(({ id }) => id), [2]);
});

test('a room that somebody closed is over, and so is a broadcast that ended', async (context) => {
  const { firebase, events, messages, join, offer, answer, path } = setUp(context);
  for (const error of ['the room was closed; offer again', 'this meeting is over', 'the broadcaster did not come back']) {
    await join();
    await offer(1);
    await answer();
    firebase.node(path(), { error });
    await settle();
    assert.deepEqual(events.at(-1), { kind: 'ended', code: 4010, reason: error });
  }
  await join();
  await offer(1);
  await answer();
  firebase.node(path(), { error: 'the client closed its connection; offer again' });
  await settle();
  assert.equal(messages('media-lost').length, 1);
});

test('an offer that nobody answers is said, and the late answer still counts', async (context) => {
  const { signal, events, join, offer, answer, messages } = setUp(context);
  await join();
  await offer(1);
  signal.replace();
  assert.deepEqual([events.at(-1).kind, events.at(-1).attempt], ['interrupted', 2]);
  assert.equal(signal.send({ type: 'chat', text: 'lost' }), false);
  await answer('late');
  assert.equal(events.at(-1).resumed, true);
  // What the session does then: it says its offer once more, under a new number.
  await offer(2, 'offer 1');
  assert.deepEqual(messages('answer'), [{ type: 'answer', id: 2, sdp: 'late' }]);
});

test('an answer that the database forgot to say is asked for until it is there', async (context) => {
  const { signal, firebase, events, join, offer, answer, path, tick } = setUp(context);
  await join();
  await offer(1);
  firebase.forgetful = true;
  signal.replace();
  await settle();
  await answer('unsaid');
  assert.equal(events.at(-1).kind, 'interrupted');
  await tick(JOIN_TIMEOUT_MS);
  assert.equal(events.at(-1).resumed, true);
  assert.equal(firebase.listenersOf(path()), 1);
});

test('a late refusal is the end, not a way back', async (context) => {
  const { signal, firebase, events, join, offer, path } = setUp(context);
  await join();
  await offer(1);
  signal.replace();
  firebase.node(path(), { error: 'all nodes are full; try again later' });
  await settle();
  assert.deepEqual(events.map((event) => event.kind), ['joined', 'interrupted', 'ended']);
});

test('an unreachable database is said at once and joined when it is back', async (context) => {
  const { firebase, events, join, tick } = setUp(context);
  firebase.offline = true;
  await join();
  await tick(JOIN_TIMEOUT_MS);
  await tick(JOIN_TIMEOUT_MS);
  assert.deepEqual(events.map((event) => event.attempt), [1, 2]);
  assert.equal(firebase.reconnects, 2, 'whoever waits does not wait for the SDK\'s own delays');
  firebase.goOnline();
  await settle();
  assert.equal(events.at(-1).kind, 'joined');
});

test('what the database forbids ends the try with a sentence', async (context) => {
  const { firebase, events, join, offer } = setUp(context);
  await join();
  firebase.refuseWith = firebaseError('permission-denied');
  await offer(1);
  assert.equal(events.at(-1).kind, 'ended');
  assert.match(events.at(-1).reason, /does not let this page write/u);

  await join();
  firebase.fail(ROOM, 'permission-denied');
  assert.match(events.at(-1).reason, /does not show this page the room/u);
});

test('an SDK that cannot be loaded is said, and asked for again at the next try', async () => {
  const events = [];
  let tries = 0;
  const open = async () => {
    tries += 1;
    throw new Error('The Firebase SDK could not be loaded.');
  };
  const signal = new FirestoreSignal({ open, on: (event) => events.push(event) });
  signal.prepare();
  await settle();
  assert.deepEqual(events, []);
  signal.join('tea', 'Bea');
  await settle();
  assert.deepEqual(events, [{ kind: 'ended', code: 0, reason: 'The Firebase SDK could not be loaded.' }]);
  assert.equal(tries, 2);
});

test('a listener that breaks is put up again', async (context) => {
  const { firebase, join, room, messages, tick } = setUp(context);
  await join();
  firebase.fail(ROOM, 'internal');
  assert.equal(firebase.listenersOf(ROOM), 0);
  await tick(3_000);
  await room([ANN]);
  assert.equal(messages('person-joined').length, 1);
});

test('a database that forgot everything leaves the meeting alone, and the next offer writes the whole document', async (context) => {
  const { firebase, join, offer, answer, path, tick, messages } = setUp(context);
  await join();
  await offer(1);
  await answer();
  await tick(1_500);
  firebase.remove(path());
  firebase.remove(ROOM);
  await settle();
  assert.deepEqual([messages('media-lost'), messages('person-left')], [[], []]);
  await offer(2);
  const { how, fields } = firebase.writesTo(path()).at(-1);
  assert.deepEqual([how, fields.kind, fields.parent, decodeDescription(fields.offer).sdp], ['set', 'member', 'tea', 'offer 2']);
  await answer('two');
  assert.equal(messages('answer').at(-1).sdp, 'two');
});

test('what is said into a forgotten document brings a new offer first', async (context) => {
  const { signal, firebase, join, offer, answer, path, tick, messages } = setUp(context);
  await join();
  await offer(1);
  await answer();
  await tick(1_500);
  firebase.remove(path());
  await settle();
  signal.send({ type: 'chat', text: 'still here' });
  await settle();
  assert.equal(messages('media-lost').length, 1);
  await offer(2);
  assert.deepEqual(firebase.writesTo(path()).at(-1).fields.say, { n: 1, text: 'still here' });
});

test('leaving hangs up, and so does joining another room', async (context) => {
  const { signal, firebase, join, offer, answer, path, events } = setUp(context);
  await join();
  await offer(1);
  await answer();
  const first = path();
  signal.join('tea', 'Bea');
  await settle();
  assert.equal(firebase.documents.get(first).abort, true);
  assert.notEqual(path(), first);
  await offer(1);
  const second = path();
  signal.leave();
  await settle();
  assert.equal(firebase.documents.get(second).abort, true);
  assert.equal(firebase.listenersOf(second) + firebase.listenersOf(ROOM), 0);
  assert.ok(events.every((event) => event.kind !== 'ended'));
});

test('a closing tab hangs up by a request that outlives it', async (context) => {
  const asked = [];
  context.mock.method(globalThis, 'fetch', async (url, options) => asked.push([url, options]));
  const { signal, firebase, join, offer, path } = setUp(context, { emulatorHost: '127.0.0.1:8791', auth: 'anonymous' });
  await join();
  await offer(1);
  assert.ok(firebase.documents.get(path()).uid);
  const document = path();
  signal.leave(true);
  const [[url, { method, keepalive, headers, body }]] = asked;
  assert.ok(url.startsWith(`http://127.0.0.1:8791/v1/projects/p/databases/(default)/documents/${document}?`));
  assert.match(url, /updateMask\.fieldPaths=abort&currentDocument\.exists=true/u);
  assert.deepEqual([method, keepalive, body], ['PATCH', true, '{"fields":{"abort":{"booleanValue":true}}}']);
  assert.match(headers.authorization, /^Bearer /u);
});

test('every try to come in has its own document', async (context) => {
  const { signal, join, offer, answer, you } = setUp(context);
  await join();
  const first = you();
  await offer(1);
  await answer();
  signal.joinAgain();
  await settle();
  assert.notEqual(you(), first);
});
