import assert from 'node:assert/strict';
import test from 'node:test';
import { CAMERA_ENCODINGS, DEMAND_FALLS_AFTER_MS } from '../js/encodings.js';
import { Session } from '../js/session.js';

/** As much of an RTCPeerConnection as negotiation needs; every offer has its number as text. */
class FakeConnection extends EventTarget {
  static made = [];
  static encodingsMax = 4;
  signalingState = 'stable';
  iceConnectionState = 'new';
  connectionState = 'new';
  localDescription = null;
  remoteDescription = null;
  transceivers = [];
  restarts = 0;
  offers = 0;
  closed = false;

  constructor() {
    super();
    FakeConnection.made.push(this);
  }
  addTransceiver(trackOrKind, { direction, sendEncodings = [] }) {
    if (sendEncodings.length > this.constructor.encodingsMax) {
      throw new TypeError('too many encodings');
    }
    const kind = trackOrKind.kind ?? trackOrKind;
    const sender = {
      track: trackOrKind.kind ? trackOrKind : null,
      encodings: structuredClone(sendEncodings),
      replaceTrack: async (track) => { sender.track = track; },
      getParameters: () => ({ encodings: structuredClone(sender.encodings) }),
      setParameters: async ({ encodings }) => { sender.encodings = encodings; },
    };
    const transceiver = { mid: null, direction, currentDirection: null, sender, receiver: { track: { kind } } };
    this.transceivers.push(transceiver);
    return transceiver;
  }
  getTransceivers() {
    return this.transceivers;
  }
  restartIce() {
    this.restarts += 1;
  }
  async setLocalDescription(description) {
    if (description?.type === 'rollback') {
      this.signalingState = 'stable';
      return;
    }
    this.transceivers.forEach((transceiver, index) => { transceiver.mid ??= String(index); });
    this.offered = this.transceivers.map((transceiver) => transceiver.direction);
    this.offers += 1;
    this.localDescription = { sdp: `offer ${this.offers}` };
    this.signalingState = 'have-local-offer';
  }
  async setRemoteDescription({ sdp }) {
    if (sdp === 'bad') {
      throw new Error('not SDP');
    }
    this.remoteDescription = { sdp };
    this.signalingState = 'stable';
    this.transceivers.forEach((transceiver, index) => { transceiver.currentDirection = this.offered[index] ?? null; });
  }
  close() {
    this.closed = true;
  }
}

const microphone = (muted) => ({ kind: 'audio', track: { kind: 'audio' }, stream: {}, muted });
const camera = () => ({ kind: 'video', track: { kind: 'video' }, stream: {}, muted: false, encodings: CAMERA_ENCODINGS });
const active = (pc) => pc.transceivers[0].sender.encodings.filter((encoding) => encoding.active).map((encoding) => encoding.rid);
const settle = () => new Promise((done) => { setImmediate(done); });

function setUp() {
  FakeConnection.made = [];
  FakeConnection.encodingsMax = 4;
  globalThis.RTCPeerConnection = FakeConnection;
  const sent = [];
  const calls = { refused: [], settled: [], unanswered: 0 };
  const session = new Session({
    send: (message) => {
      sent.push(structuredClone(message));
      return true;
    },
    onReceivers: () => {},
    onSettled: (sections) => calls.settled.push([...sections]),
    onMedia: () => {},
    onRefused: (reason) => calls.refused.push(reason),
    onStuck: () => {},
    onUnanswered: () => { calls.unanswered += 1; },
  });
  const offers = () => sent.filter((message) => message.type === 'offer');
  const answer = async () => {
    await session.handleAnswer({ id: offers().at(-1).id, sdp: 'answer' });
    await settle();
  };
  return { session, sent, offers, answer, calls, pc: () => FakeConnection.made.at(-1) };
}

test('the first offer says what each section is', async () => {
  const { session, offers } = setUp();
  session.start([]);
  session.setSource('microphone', microphone(false));
  session.setWanted([{ id: 'a', kind: 'audio' }, { id: 'v', kind: 'video' }]);
  session.setOnline(true);
  await settle();
  assert.equal(offers().length, 1);
  assert.deepEqual(offers()[0].sources, { 0: 'microphone' });
  assert.deepEqual(offers()[0].wants, { 1: 'a', 2: 'v' });
  session.close();
});

test('changes during an offer go into one offer after it', async () => {
  const { session, offers, answer } = setUp();
  session.start([]);
  session.setOnline(true);
  session.setWanted([{ id: 'a', kind: 'audio' }]);
  await settle();
  session.setWanted([{ id: 'a', kind: 'audio' }, { id: 'b', kind: 'audio' }]);
  session.setWanted([{ id: 'a', kind: 'audio' }, { id: 'b', kind: 'audio' }, { id: 'c', kind: 'video' }]);
  session.restartIce();
  await settle();
  assert.equal(offers().length, 1);
  await answer();
  assert.equal(offers().length, 2);
  assert.deepEqual(Object.values(offers()[1].wants), ['a', 'b', 'c']);
  await answer();
  assert.equal(offers().length, 2);
  session.close();
});

test('what is wanted already makes no offer', async () => {
  const { session, offers, answer } = setUp();
  session.start([]);
  session.setOnline(true);
  session.setWanted([{ id: 'a', kind: 'audio' }]);
  await settle();
  await answer();
  session.setWanted([{ id: 'a', kind: 'audio' }]);
  await settle();
  assert.equal(offers().length, 1);
  session.close();
});

test('the section of a track that went is used again', async () => {
  const { session, offers, answer, pc } = setUp();
  session.start([]);
  session.setOnline(true);
  session.setWanted([{ id: 'a', kind: 'video' }]);
  await settle();
  await answer();
  session.setWanted([]);
  await settle();
  assert.deepEqual(offers().at(-1).wants, {});
  await answer();
  session.setWanted([{ id: 'b', kind: 'video' }]);
  await settle();
  assert.deepEqual(offers().at(-1).wants, { 0: 'b' });
  assert.equal(pc().transceivers.length, 1);
  session.close();
});

test('what is received is said once the answer has agreed to it, and again for a new connection', async () => {
  const { session, answer, calls } = setUp();
  session.start([]);
  session.setOnline(true);
  session.setWanted([{ id: 'a', kind: 'video' }]);
  await settle();
  assert.deepEqual(calls.settled.splice(0).flat(), []);
  await answer();
  assert.deepEqual(calls.settled.splice(0), [[['a', '0']]]);
  session.start();
  await settle();
  assert.deepEqual(calls.settled.splice(0), [[]]);
  await answer();
  assert.deepEqual(calls.settled, [[['a', '0']]]);
  session.close();
});

test('a muted source is called muted once the server knows it', async () => {
  const { session, sent, answer } = setUp();
  session.start([]);
  session.setOnline(true);
  session.setSource('microphone', microphone(true));
  await settle();
  assert.ok(!sent.some((message) => message.type === 'mute'));
  await answer();
  assert.deepEqual(sent.at(-1), { type: 'mute', source: 'microphone', muted: true });
  session.setMuted('microphone', false);
  assert.deepEqual(sent.at(-1), { type: 'mute', source: 'microphone', muted: false });
  session.close();
});

test('an offer whose answer was lost with the connection is said again', async () => {
  const { session, offers, answer, pc } = setUp();
  session.start([]);
  session.setOnline(true);
  session.setWanted([{ id: 'a', kind: 'audio' }]);
  await settle();
  session.setOnline(false);
  session.setOnline(true);
  await settle();
  assert.equal(offers().length, 2);
  assert.equal(offers()[1].sdp, offers()[0].sdp);
  assert.notEqual(offers()[1].id, offers()[0].id);
  await session.handleAnswer({ id: offers()[0].id, sdp: 'stale' });
  assert.equal(pc().remoteDescription, null);
  await answer();
  assert.equal(pc().remoteDescription.sdp, 'answer');
  session.close();
});

test('a refused offer is undone, and tried again later', async (context) => {
  context.mock.timers.enable({ apis: ['setTimeout'] });
  const { session, offers, calls, pc } = setUp();
  session.start([]);
  session.setOnline(true);
  session.setWanted([{ id: 'a', kind: 'audio' }]);
  await settle();
  session.handleRefused({ id: offers()[0].id, error: 'too many tracks' });
  await settle();
  assert.deepEqual(calls.refused, ['too many tracks']);
  assert.equal(pc().signalingState, 'stable');
  context.mock.timers.tick(2_000);
  await settle();
  assert.equal(offers().length, 2);
  session.close();
});

test('a server that does not answer is noticed', async (context) => {
  context.mock.timers.enable({ apis: ['setTimeout'] });
  const { session, calls } = setUp();
  session.start([]);
  session.setOnline(true);
  session.setWanted([{ id: 'a', kind: 'audio' }]);
  await settle();
  context.mock.timers.tick(8_000);
  assert.equal(calls.unanswered, 1);
  session.close();
});

test('lost media begins again with everything that was sent and received', async () => {
  const { session, offers, answer } = setUp();
  session.start([]);
  session.setOnline(true);
  session.setSource('microphone', microphone(true));
  session.setWanted([{ id: 'a', kind: 'audio' }]);
  await settle();
  await answer();
  session.start();
  await settle();
  assert.equal(FakeConnection.made.length, 2);
  assert.ok(FakeConnection.made[0].closed);
  assert.deepEqual(offers().at(-1).sources, { 0: 'microphone' });
  assert.deepEqual(Object.values(offers().at(-1).wants), ['a']);
  session.close();
});

test('alone and with nothing to send there is nothing to offer', async () => {
  const { session, offers } = setUp();
  session.start([]);
  session.setOnline(true);
  await settle();
  assert.equal(offers().length, 0);
  session.close();
});

test('a camera is sent in three encodings, and in those only that somebody wants', async (context) => {
  context.mock.timers.enable({ apis: ['setTimeout'] });
  const { session, answer, pc } = setUp();
  session.start([]);
  session.setOnline(true);
  session.setSource('camera', camera());
  await settle();
  await answer();
  assert.deepEqual(active(pc()), ['q', 'h', 'f']);
  session.setDemand('camera', 0);
  context.mock.timers.tick(DEMAND_FALLS_AFTER_MS);
  assert.deepEqual(active(pc()), ['q']);
  session.setDemand('camera', 1);
  assert.deepEqual(active(pc()), ['q', 'h']);
  session.setDemand('screen', 'best');
  assert.deepEqual(active(pc()), ['q', 'h']);
  // A new media connection is a new one to the server: it may want everything.
  session.start();
  await settle();
  assert.deepEqual(active(pc()), ['q', 'h', 'f']);
  session.close();
});

test('a browser that refuses several encodings sends the largest', async () => {
  const { session, pc, offers } = setUp();
  FakeConnection.encodingsMax = 1;
  session.start([]);
  session.setOnline(true);
  session.setSource('camera', camera());
  await settle();
  assert.equal(offers().length, 1);
  assert.deepEqual(pc().transceivers[0].sender.encodings, [{ scaleResolutionDownBy: 1, maxBitrate: 1_700_000 }]);
  session.close();
});

test('the largest is sent too when the answer leaves one of several', async () => {
  const { session, answer, pc } = setUp();
  session.start([]);
  session.setOnline(true);
  session.setSource('camera', camera());
  await settle();
  pc().transceivers[0].sender.encodings.splice(1);
  await answer();
  assert.equal(pc().transceivers[0].sender.encodings[0].scaleResolutionDownBy, 1);
  session.close();
});
