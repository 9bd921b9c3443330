import assert from 'node:assert/strict';
import test from 'node:test';
import { ContractCall, LOOK_AGAIN_MS } from '../contract/call.js';
import { decodeDescription, encodeDescription, meetingIdIn, refusalMark, requestFields } from '../contract/documents.js';
import { Database, addressConfiguration } from '../contract/firebase.js';
import { FakeFirebase, firebaseError } from './fake-firebase.js';

const settle = () => new Promise((done) => { setImmediate(done); });

test('a description is standard base64, with padding, of JSON', () => {
  const text = encodeDescription({ type: 'offer', sdp: 'v=0\r\ns=Zoë\r\n', toJSON: () => 'not this' });
  assert.match(text, /^[A-Za-z0-9+/]+={0,2}$/u);
  assert.equal(text.length % 4, 0);
  assert.equal(Buffer.from(text, 'base64').toString(), '{"type":"offer","sdp":"v=0\\r\\ns=Zoë\\r\\n"}');
  assert.deepEqual(decodeDescription(text), { type: 'offer', sdp: 'v=0\r\ns=Zoë\r\n' });
  const keysTurned = Buffer.from('{"sdp":"v=0","type":"answer"}').toString('base64');
  assert.deepEqual(decodeDescription(keysTurned), { sdp: 'v=0', type: 'answer' });
});

test('an answer that is none is said', () => {
  for (const text of ['%%%', 'aGVsbG8=', Buffer.from('{"type":"answer"}').toString('base64'), Buffer.from('null').toString('base64')]) {
    assert.throws(() => decodeDescription(text), /^Error: The answer in the document/u);
  }
});

test('a request has the six fields of the contract and no other', () => {
  assert.deepEqual(requestFields({ requestor: 'A', kind: 'broadcaster', parent: '', offer: 'o', more: 1 }),
    { requestor: 'A', kind: 'broadcaster', parent: '', offer: 'o', answer: '', abort: false });
});

test('one refusal is told from the next by who wrote it and until when it stays', () => {
  assert.equal(refusalMark(null), '');
  assert.equal(refusalMark({ error: '' }), '');
  const first = refusalMark({ error: 'no', expire_at: { seconds: 1, nanoseconds: 0 } });
  assert.notEqual(first, refusalMark({ error: 'no', expire_at: { seconds: 2, nanoseconds: 0 } }));
  assert.equal(first, refusalMark({ error: 'no', answer: '', expire_at: { seconds: 1, nanoseconds: 0 } }));
});

test('a meeting is found in what people paste', () => {
  assert.equal(meetingIdIn(' AbC123xyz '), 'AbC123xyz');
  assert.equal(meetingIdIn('https://m.example/contract/participant.html?name=x&parent=AbC#top'), 'AbC');
  assert.equal(meetingIdIn('not an id'), '');
  assert.equal(meetingIdIn(''), '');
});

test('an address may name a database, but not bring code from elsewhere', () => {
  const at = (search) => ({ href: `https://m.example/contract/${search}`, origin: 'https://m.example', search });
  assert.equal(addressConfiguration(at('?name=x')), null);
  assert.deepEqual(addressConfiguration(at('?projectId=p&emulatorHost=127.0.0.1:8791&evil=1')), { projectId: 'p', emulatorHost: '127.0.0.1:8791' });
  assert.equal(addressConfiguration(at('?projectId=p&sdk=/copy')).sdk, '/copy');
  assert.ok(addressConfiguration(at('?projectId=p&sdk=https://www.gstatic.com/firebasejs/11.0.0')));
  for (const sdk of ['https://evil.example', 'https://www.gstatic.com.evil.example/firebasejs/1', '//evil.example/x']) {
    assert.throws(() => addressConfiguration(at(`?projectId=p&sdk=${encodeURIComponent(sdk)}`)), /own origin/u);
  }
});

/** As much of an RTCPeerConnection as the pages need. */
class FakeConnection {
  static made = [];
  connectionState = 'new';
  localDescription = null;
  remoteDescription = null;
  constructor() {
    FakeConnection.made.push(this);
  }
  async setLocalDescription() {
    this.localDescription = { type: 'offer', sdp: `offer ${FakeConnection.made.length}` };
  }
  async setRemoteDescription(description) {
    assert.equal(this.remoteDescription, null, 'the answer is read once');
    this.remoteDescription = description;
  }
  close() {
    this.connectionState = 'closed';
  }
  become(state) {
    this.connectionState = state;
    this.onconnectionstatechange();
  }
}

async function setUp(context) {
  context?.mock.timers.enable({ apis: ['setTimeout'] });
  FakeConnection.made = [];
  globalThis.RTCPeerConnection = FakeConnection;
  const firebase = new FakeFirebase();
  const states = [];
  const call = new ContractCall({
    database: await Database.open({ projectId: 'p', collection: 'requests' }, async () => firebase.modules()),
    request: { requestor: 'A', kind: 'broadcaster', parent: '' },
    prepare: () => {},
    on: (state, text) => states.push(text ? `${state}: ${text}` : state),
  });
  const answer = async (sdp) => {
    firebase.node(`requests/${call.id}`, { answer: encodeDescription({ type: 'answer', sdp }), error: '' });
    await settle();
  };
  return { call, firebase, states, answer, pc: () => FakeConnection.made.at(-1) };
}

test('one write, one answer, one hang-up', async (context) => {
  const { call, firebase, states, answer, pc } = await setUp(context);
  await call.offer();
  await settle();
  const path = `requests/${call.id}`;
  assert.deepEqual(Object.keys(firebase.writes[0].fields), ['requestor', 'kind', 'parent', 'offer', 'answer', 'abort']);
  await answer('one');
  firebase.node(path, { lease_until: 1 });
  await settle();
  assert.equal(pc().remoteDescription.sdp, 'one');
  pc().become('connected');
  await call.hangUp();
  assert.deepEqual(firebase.writes.map((write) => write.how), ['set', 'update']);
  assert.deepEqual(firebase.writes[1].fields, { abort: true });
  assert.equal(firebase.listenersOf(path), 0);
  assert.deepEqual(states, ['offering', 'waiting', 'connecting', 'live', 'ended']);
});

test('a refusal is said; the next offer goes into the same document and its own refusal is said too', async (context) => {
  const { call, firebase, states, answer, pc } = await setUp(context);
  await call.offer();
  await settle();
  const { id } = call;
  firebase.node(`requests/${id}`, { error: 'all nodes are full', owner: 'n1', expire_at: { seconds: 1, nanoseconds: 0 } });
  assert.equal(states.at(-1), 'refused: all nodes are full');
  await call.offer();
  await settle();
  assert.equal(call.id, id);
  assert.deepEqual(firebase.writes[1], { ...firebase.writes[1], how: 'update', path: `requests/${id}` });
  assert.equal(firebase.documents.get(`requests/${id}`).answer, '');
  assert.equal(states.at(-1), 'waiting', 'the sentence of before is not said again');
  firebase.node(`requests/${id}`, { expire_at: { seconds: 2, nanoseconds: 0 } });
  assert.equal(states.at(-1), 'refused: all nodes are full');
  await call.offer();
  await settle();
  await answer('late');
  assert.equal(pc().remoteDescription.sdp, 'late');
});

test('a meeting that is over leaves nothing to offer again', async (context) => {
  const { call, firebase, states, answer, pc } = await setUp(context);
  await call.offer();
  await settle();
  const path = `requests/${call.id}`;
  await answer('one');
  firebase.node(path, { error: 'this meeting is over', owner: '', expire_at: { seconds: 1, nanoseconds: 0 } });
  assert.equal(states.at(-1), 'ended: this meeting is over');
  assert.equal(pc().connectionState, 'closed');
  assert.equal(firebase.listenersOf(path), 0);
  assert.deepEqual(firebase.writes.map((write) => write.how), ['set'], 'the node has ended it already');
});

test('an answer that the database forgot to say is found; whoever hung up looks for none', async (context) => {
  const { call, firebase, states, answer, pc } = await setUp(context);
  await call.offer();
  await settle();
  const path = `requests/${call.id}`;
  firebase.forgetful = true;
  await answer('unsaid');
  assert.equal(states.at(-1), 'waiting');
  context.mock.timers.tick(LOOK_AGAIN_MS);
  await settle();
  assert.equal(pc().remoteDescription.sdp, 'unsaid');
  assert.equal(firebase.listenersOf(path), 1);
  await call.hangUp();

  await call.offer();
  await settle();
  const next = `requests/${call.id}`;
  await call.hangUp();
  context.mock.timers.tick(2 * LOOK_AGAIN_MS);
  await settle();
  assert.deepEqual([path, next].map((one) => firebase.listenersOf(one)), [0, 0]);
});

test('a lost connection, a bad answer and a database that says no are said', async (context) => {
  const { call, firebase, states, pc } = await setUp(context);
  firebase.refuseWith = firebaseError('permission-denied');
  await call.offer();
  assert.equal(states.at(-1), 'refused: The database did not take the offer: permission-denied');
  const next = await setUp();
  await next.call.offer();
  await settle();
  next.firebase.node(`requests/${next.call.id}`, { answer: '%%%' });
  await settle();
  assert.match(next.states.at(-1), /^refused: The answer in the document/u);
  next.pc().become('failed');
  assert.match(next.states.at(-1), /^lost/u);
  assert.notEqual(pc(), next.pc);
});
