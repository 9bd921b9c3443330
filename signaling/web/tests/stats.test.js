import assert from 'node:assert/strict';
import test from 'node:test';
import { shownRate, summarise } from '../js/stats.js';

function report(seconds, bytes, packets, lost) {
  const timestamp = seconds * 1000;
  return [
    { id: 'T', type: 'transport', timestamp, selectedCandidatePairId: 'P' },
    { id: 'P', type: 'candidate-pair', timestamp, localCandidateId: 'L', remoteCandidateId: 'R', currentRoundTripTime: 0.012 },
    { id: 'L', type: 'local-candidate', timestamp, protocol: 'udp', address: '10.0.0.2', port: 5000 },
    { id: 'R', type: 'remote-candidate', timestamp, protocol: 'udp', address: '10.0.0.1', port: 3478 },
    { id: 'C', type: 'codec', timestamp, mimeType: 'video/VP8' },
    { id: 'I', type: 'inbound-rtp', timestamp, kind: 'video', mid: '2', codecId: 'C', bytesReceived: bytes, packetsReceived: packets,
      packetsLost: lost, jitter: 0.004, frameWidth: 640, frameHeight: 360, framesPerSecond: 30, framesDecoded: 90 },
    { id: 'O', type: 'outbound-rtp', timestamp, kind: 'audio', mid: '0', bytesSent: 4000 * seconds, packetsSent: 50 * seconds },
    { id: 'RR', type: 'remote-inbound-rtp', timestamp, localId: 'O', packetsLost: 0, jitter: 0.002 },
  ];
}

test('the path and its round trip', () => {
  const summary = summarise(report(1, 0, 0, 0), null);
  assert.equal(summary.transport, 'udp');
  assert.equal(summary.remote, '10.0.0.1:3478');
  assert.equal(summary.roundTripMs, 12);
});

test('rates and loss are those of the time in between', () => {
  const first = summarise(report(1, 100_000, 100, 50), null);
  const [video] = first.streams;
  assert.equal(video.bitrateBps, 0);
  const second = summarise(report(3, 350_000, 298, 52), first);
  assert.equal(second.streams[0].bitrateBps, 1_000_000);
  assert.equal(second.streams[0].lossPercent, 1);
  assert.equal(second.streams[0].codec, 'VP8');
  assert.equal(second.inBps, 1_000_000);
  assert.equal(second.outBps, 32_000);
  assert.equal(second.streams[1].jitterMs, 2);
});

test('a section that was used again does not show a negative rate', () => {
  const first = summarise(report(1, 900_000, 900, 0), null);
  assert.equal(summarise(report(2, 1_000, 2, 0), first).streams[0].bitrateBps, 0);
});

test('each encoding of a picture has its own rate', () => {
  const of = (seconds) => ['q', 'f'].map((rid, index) => ({
    id: rid, type: 'outbound-rtp', timestamp: seconds * 1000, kind: 'video', mid: '1', rid,
    active: rid === 'q', bytesSent: 10_000 * seconds * (1 + index), packetsSent: 10 * seconds,
  }));
  const { streams } = summarise(of(2), summarise(of(1), null));
  assert.deepEqual(streams.map(({ rid, active, bitrateBps }) => [rid, active, bitrateBps]), [['q', true, 80_000], ['f', false, 160_000]]);
});

test('nothing connected yet', () => {
  const summary = summarise([], null);
  assert.equal(summary.roundTripMs, null);
  assert.equal(summary.transport, '');
  assert.deepEqual(summary.streams, []);
});

test('rates for people', () => {
  assert.equal(shownRate(1_540_000), '1.5 Mbit/s');
  assert.equal(shownRate(31_900), '32 kbit/s');
});
