// The security rules against Google's emulator: what each of them allows, and what it denies.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { after, before, beforeEach, describe, test } from 'node:test';

import { newProject, startEmulator } from './emulator.mjs';

const REQUESTS = 'broadcast_requests';
const ROOMS = 'broadcast_requests_rooms';
const NODES = 'broadcast_requests_nodes';

const OK = 200;
const DENIED = 403;
const NOT_THERE = 404;

const LATER = new Date('2026-12-01T00:00:00Z');

/** What only nodes write. */
const OF_NODES = { answer: 'bm8=', owner: 'node-1', error: 'no', error_offer: '7f', lease_until: LATER, expire_at: LATER };

/** The six fields of the contract. */
const request = (fields = {}) => ({
  requestor: 'Ada', kind: 'broadcaster', parent: '', offer: 'b2ZmZXI=', answer: '', abort: false, ...fields,
});

const member = (fields = {}) => request({
  kind: 'member', parent: 'tea', sources: { 0: 'camera' }, wants: {}, muted: { camera: true }, say: { n: 1, text: 'hi' }, ...fields,
});

const camera = (fields = {}) => request({
  kind: 'camera', parent: 'gate', offer: '', url: 'rtsp://ann:s3cret@192.0.2.7/1', transport: 'tcp', mode: 'always', verify: false, ...fields,
});

let emulator;
before(async () => { emulator = await startEmulator(); });
after(async () => { await emulator?.stop(); });

const rules = (name) => readFile(new URL(`../${name}`, import.meta.url), 'utf8');

/** What both sets of rules have in common. `own(fields)` is a document of `page`. */
function common(world, own) {
  test('a page makes its request, of any kind', async () => {
    const { page } = world();
    assert.equal(await page.create(REQUESTS, 'a', own(request())), OK);
    assert.equal(await page.create(REQUESTS, 'b', own(request({ kind: 'participant', parent: 'a', requestor: '' }))), OK);
    assert.equal(await page.create(REQUESTS, 'c', own(member())), OK);
    assert.equal(await page.set(REQUESTS, 'd', own(request())), OK, 'setDoc');
    assert.equal(await page.create(REQUESTS, 'e', own(request({ offer: 'A'.repeat(512 * 1024) }))), OK);
  });

  test('a request has the contract\'s shape', async () => {
    const { page } = world();
    for (const bad of [
      { kind: 'viewer' }, { kind: 7 }, { parent: 7 }, { parent: 'p'.repeat(129) }, { requestor: 'n'.repeat(257) },
      { requestor: null }, { requestor: {} }, { parent: {} }, { offer: {} }, { offer: 7 }, { offer: 'A'.repeat(512 * 1024 + 1) }, { abort: true }, { abort: 'false' },
      { answer: 'bm8=' }, { answer: 7 }, { color: 'red' }, { sources: {} }, { say: { n: 1, text: 'hi' } },
    ]) {
      assert.equal(await page.create(REQUESTS, 'a', own(request(bad))), DENIED, JSON.stringify(bad).slice(0, 80));
    }
    for (const bad of [{ sources: 'camera' }, { wants: 7 }, { muted: true }, { say: 'hi' }]) {
      assert.equal(await page.create(REQUESTS, 'a', own(member(bad))), DENIED, JSON.stringify(bad));
    }
    for (const missing of Object.keys(request())) {
      assert.equal(await page.create(REQUESTS, 'a', own(request({ [missing]: undefined }))), DENIED, `without ${missing}`);
    }
  });

  test('a page makes no request that looks served', async () => {
    const { page } = world();
    for (const [name, value] of Object.entries(OF_NODES)) {
      assert.equal(await page.create(REQUESTS, 'a', own(request({ [name]: value }))), DENIED, name);
    }
  });

  test('a page reads its answer', async () => {
    const { page, node } = world();
    assert.equal(await page.get(REQUESTS, 'a'), NOT_THERE, 'it may listen before it has written');
    await page.create(REQUESTS, 'a', own(request()));
    assert.equal(await node.update(REQUESTS, 'a', { answer: 'YW5zd2Vy', owner: 'node-1', lease_until: LATER, error: '' }), OK);
    assert.equal(await page.get(REQUESTS, 'a'), OK);
  });

  test('a page offers again, before and after an answer', async () => {
    const { page, node } = world();
    await page.create(REQUESTS, 'a', own(member()));
    await node.update(REQUESTS, 'a', OF_NODES);
    const again = { offer: 'YWdhaW4=', answer: '', sources: {}, wants: { 1: 'track' } };
    assert.equal(await page.update(REQUESTS, 'a', again), OK);
    assert.equal(await page.update(REQUESTS, 'a', { offer: 'dGhpcmQ=' }), OK, 'it was not answered yet');
    await node.update(REQUESTS, 'a', { answer: 'YW5zd2Vy' });
    assert.equal(await page.update(REQUESTS, 'a', { offer: 'bW9yZQ==' }), DENIED, 'the old answer is not to this offer');
    assert.equal(await page.update(REQUESTS, 'a', { answer: '' }), DENIED, 'there is nothing new to answer');
    assert.equal(await page.update(REQUESTS, 'a', { offer: 7, answer: '' }), DENIED);
  });

  test('a page hangs up, for good', async () => {
    const { page, node } = world();
    await page.create(REQUESTS, 'a', own(request()));
    await node.update(REQUESTS, 'a', { answer: 'YW5zd2Vy', owner: 'node-1' });
    assert.equal(await page.update(REQUESTS, 'a', { abort: 1 }), DENIED);
    assert.equal(await page.update(REQUESTS, 'a', { abort: true }), OK);
    assert.equal(await page.update(REQUESTS, 'a', { abort: false }), DENIED);
    assert.equal(await page.delete(REQUESTS, 'a'), DENIED, 'nodes and the database clean up');
  });

  test('a member mutes and speaks; the other kinds do not', async () => {
    const { page } = world();
    await page.create(REQUESTS, 'a', own(member()));
    assert.equal(await page.update(REQUESTS, 'a', { muted: { camera: false }, say: { n: 2, text: 'yes' } }), OK);
    assert.equal(await page.update(REQUESTS, 'a', { say: 'yes' }), DENIED);
    const many = Object.fromEntries(Array.from({ length: 257 }, (_, mid) => [mid, 'track']));
    assert.equal(await page.update(REQUESTS, 'a', { wants: many }), DENIED);
    await page.create(REQUESTS, 'b', own(request()));
    assert.equal(await page.update(REQUESTS, 'b', { say: { n: 1, text: 'hi' } }), DENIED);
  });

  test('a page changes neither what it is nor what nodes write', async () => {
    const { page, node } = world();
    await page.create(REQUESTS, 'a', own(request()));
    await node.update(REQUESTS, 'a', { owner: 'node-2', error: 'full', error_offer: '6e', lease_until: LATER, expire_at: LATER });
    for (const [name, value] of Object.entries({ ...OF_NODES, lease_until: new Date(), expire_at: new Date() })) {
      assert.equal(await page.update(REQUESTS, 'a', { [name]: value }), DENIED, name);
      assert.equal(await page.update(REQUESTS, 'a', { offer: 'bmV3', [name]: value }), DENIED, `${name} with an offer`);
    }
    for (const name of ['owner', 'error', 'error_offer', 'lease_until', 'expire_at']) {
      assert.equal(await page.update(REQUESTS, 'a', { [name]: undefined }), DENIED, `${name} taken away`);
    }
    for (const change of [{ kind: 'participant' }, { parent: 'x' }, { requestor: 'Eve' }, { uid: 'eve' }, { color: 'red' }]) {
      assert.equal(await page.update(REQUESTS, 'a', change), DENIED, JSON.stringify(change));
    }
    assert.equal(await page.set(REQUESTS, 'a', own(request({ offer: 'bmV3' }))), DENIED, 'setDoc would take them away');
  });

  test('a page without a claim adds no camera, and makes nothing else into one', async () => {
    const { page } = world();
    assert.equal(await page.create(REQUESTS, 'a', own(camera())), DENIED);
    assert.equal(await page.create(REQUESTS, 'a', own(request({ url: 'rtsp://192.0.2.7/1' }))), DENIED);
    await page.create(REQUESTS, 'b', own(member()));
    assert.equal(await page.update(REQUESTS, 'b', { url: 'rtsp://192.0.2.7/1', answer: '' }), DENIED);
    assert.equal(await page.update(REQUESTS, 'b', { kind: 'camera', url: 'rtsp://192.0.2.7/1', answer: '' }), DENIED);
  });

  test('nobody lists requests', async () => {
    const { page, stranger } = world();
    await page.create(REQUESTS, 'a', own(request()));
    for (const caller of [page, stranger]) {
      assert.equal(await caller.list(REQUESTS), DENIED);
      assert.equal(await caller.query(REQUESTS, 'kind', 'broadcaster'), DENIED);
      assert.equal(await caller.query(REQUESTS, 'uid', 'ada'), DENIED, 'not even their own');
    }
  });

  test('a room is read by name and written by none', async () => {
    const { page, node } = world();
    assert.equal(await page.get(ROOMS, 'tea'), NOT_THERE);
    assert.equal(await node.create(ROOMS, 'tea', { owner: 'node-1', people: '[]' }), OK);
    assert.equal(await page.get(ROOMS, 'tea'), OK);
    assert.equal(await page.update(ROOMS, 'tea', { people: '["eve"]' }), DENIED);
    assert.equal(await page.create(ROOMS, 'coffee', { owner: 'eve' }), DENIED);
    assert.equal(await page.delete(ROOMS, 'tea'), DENIED);
    assert.equal(await page.list(ROOMS), DENIED);
  });

  test('the registry of nodes is closed', async () => {
    const { page, node } = world();
    assert.equal(await node.create(NODES, 'node-1', { addresses: '192.0.2.1' }), OK);
    assert.equal(await page.get(NODES, 'node-1'), DENIED);
    assert.equal(await page.list(NODES), DENIED);
    assert.equal(await page.create(NODES, 'node-2', {}), DENIED);
    assert.equal(await page.update(NODES, 'node-1', { addresses: '198.51.100.1' }), DENIED);
    assert.equal(await page.delete(NODES, 'node-1'), DENIED);
  });

  test('nothing else is open', async () => {
    const { page } = world();
    assert.equal(await page.get('calls', 'a'), DENIED);
    assert.equal(await page.create('calls', 'a', {}), DENIED);
    assert.equal(await page.create(`${REQUESTS}/a/inner`, 'b', {}), DENIED);
  });
}

describe('firestore.rules: pages that sign in', () => {
  let people;
  beforeEach(async () => {
    const project = await newProject(emulator.host, await rules('firestore.rules'));
    people = { page: project.user('ada'), other: project.user('eve'), stranger: project.stranger(), node: project.node(), keeper: project.user('kim', { cameras: true }) };
  });
  const own = (fields) => ({ ...fields, uid: 'ada' });

  common(() => people, own);

  test('a request belongs to who makes it', async () => {
    const { page, other, stranger } = people;
    for (const caller of [other, stranger]) {
      assert.equal(await caller.create(REQUESTS, 'a', own(request())), DENIED, 'in the name of another');
      assert.equal(await caller.create(REQUESTS, 'a', request()), DENIED, 'in no name');
    }
    assert.equal(await stranger.create(REQUESTS, 'a', request({ uid: null })), DENIED, 'in the name of nobody');
    assert.equal(await stranger.get(REQUESTS, 'a'), DENIED, 'before it is there');
    await page.create(REQUESTS, 'a', own(request()));
    for (const caller of [other, stranger]) {
      assert.equal(await caller.get(REQUESTS, 'a'), DENIED);
      assert.equal(await caller.update(REQUESTS, 'a', { abort: true }), DENIED);
      assert.equal(await caller.update(REQUESTS, 'a', { offer: 'ZXZl' }), DENIED);
      assert.equal(await caller.update(REQUESTS, 'a', { uid: 'eve', offer: 'ZXZl' }), DENIED);
      assert.equal(await caller.delete(REQUESTS, 'a'), DENIED);
    }
  });

  test('a request without a `uid` is nobody\'s', async () => {
    const { page, node } = people;
    await node.create(REQUESTS, 'a', request());
    assert.equal(await page.get(REQUESTS, 'a'), DENIED);
    assert.equal(await page.update(REQUESTS, 'a', { abort: true }), DENIED);
  });

  test('who has the claim adds cameras, changes them and takes them away', async () => {
    const { keeper, other, page, node } = people;
    const kims = (fields) => camera({ uid: 'kim', ...fields });
    assert.equal(await keeper.create(REQUESTS, 'a', kims()), OK);
    const layers = [{ url: 'rtsp://192.0.2.7/2', rid: 'l' }, { url: 'rtsp://192.0.2.7/1', rid: 'h' }];
    assert.equal(await keeper.create(REQUESTS, 'b', kims({ url: undefined, layers })), OK);
    for (const bad of [{ url: 7 }, { layers: 'rtsp://192.0.2.7/1' }, { url: 'u'.repeat(4097) }, { answer: 'a' }, { uid: 'ada' }]) {
      assert.equal(await keeper.create(REQUESTS, 'c', kims(bad)), DENIED, JSON.stringify(bad).slice(0, 60));
    }
    for (const caller of [other, page]) {
      assert.equal(await caller.get(REQUESTS, 'a'), DENIED, 'there is a password in it');
    }
    await node.update(REQUESTS, 'a', { answer: 'a', owner: 'node-1', lease_until: LATER, error: '' });
    assert.equal(await keeper.update(REQUESTS, 'a', { url: 'rtsp://ann:new@192.0.2.7/1' }), DENIED, 'the answer is to the old one');
    assert.equal(await keeper.update(REQUESTS, 'a', { url: 'rtsp://ann:new@192.0.2.7/1', answer: '' }), OK);
    assert.equal(await keeper.update(REQUESTS, 'a', { abort: true }), OK);
  });

  test('a room is closed to those who did not sign in', async () => {
    const { stranger, node } = people;
    await node.create(ROOMS, 'tea', { people: '[]' });
    assert.equal(await stranger.get(ROOMS, 'tea'), DENIED);
  });
});

describe('firestore-open.rules: unchanged pages, which do not sign in', () => {
  let people;
  beforeEach(async () => {
    const project = await newProject(emulator.host, await rules('firestore-open.rules'));
    people = { page: project.stranger(), stranger: project.user('eve'), ada: project.user('ada'), node: project.node() };
  });

  common(() => people, (fields) => fields);

  test('who knows a document\'s id may read it and hang it up', async () => {
    const { page, stranger } = people;
    await page.create(REQUESTS, 'a', request());
    assert.equal(await stranger.get(REQUESTS, 'a'), OK);
    assert.equal(await stranger.update(REQUESTS, 'a', { abort: true }), OK);
  });

  test('a request with a `uid` belongs to who signed in', async () => {
    const { page, stranger, ada } = people;
    for (const caller of [page, stranger]) {
      assert.equal(await caller.create(REQUESTS, 'a', request({ uid: 'ada' })), DENIED, 'in the name of another');
    }
    assert.equal(await ada.create(REQUESTS, 'a', request({ uid: 'ada' })), OK);
    assert.equal(await ada.get(REQUESTS, 'a'), OK);
    assert.equal(await ada.update(REQUESTS, 'a', { offer: 'bmV3' }), OK);
    for (const caller of [page, stranger]) {
      assert.equal(await caller.get(REQUESTS, 'a'), DENIED);
      assert.equal(await caller.update(REQUESTS, 'a', { abort: true }), DENIED);
    }
  });
});

describe('firestore.indexes.json', () => {
  // Nodes search by these; without their indexes a search fails, which the emulator does not show.
  const SEARCHED = ['answer', 'abort', 'owner', 'kind', 'parent'];

  test('fields that nodes search by keep their indexes, and ended requests expire', async () => {
    const { fieldOverrides } = JSON.parse(await rules('firestore.indexes.json'));
    for (const { collectionGroup, fieldPath, indexes } of fieldOverrides) {
      assert.deepEqual(indexes, [], 'an override here takes indexes away');
      assert.ok(!SEARCHED.includes(fieldPath), `${collectionGroup}.${fieldPath}`);
    }
    const expiring = fieldOverrides.filter(({ ttl }) => ttl);
    assert.deepEqual(expiring, [{ collectionGroup: REQUESTS, fieldPath: 'expire_at', ttl: true, indexes: [] }]);
  });
});
