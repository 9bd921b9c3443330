/**
 * What the connection does: `getStats` boiled down to what a person can read.
 *
 * @typedef {{
 *   direction: "in"|"out", kind: "audio"|"video", mid: string, rid: string, active: boolean, codec: string, bytes: number, packets: number,
 *   bitrateBps: number, lost: number, lossPercent: number, jitterMs: number,
 *   width: number, height: number, fps: number, frames: number, freezes: number, audioEnergy: number,
 *   source?: string, person?: string, name?: string, track?: string
 * }} StreamSummary `rid`: which encoding, of a picture that is sent in several; `active`: whether it is to be sent;
 *   `frames`: decoded (in) or encoded (out) so far
 * @typedef {{
 *   atMs: number, roundTripMs: number|null, transport: string, local: string, remote: string,
 *   inBps: number, outBps: number, streams: StreamSummary[]
 * }} Summary
 */

/**
 * Boils a report down.
 * @param {Iterable<any>} report the values of an RTCStatsReport
 * @param {Summary|null} before the summary to take rates against
 * @returns {Summary}
 */
export function summarise(report, before) {
  const entries = [...report];
  const byId = new Map(entries.map((entry) => [entry.id, entry]));
  const pair = chosenPair(entries, byId);
  const local = byId.get(pair?.localCandidateId);
  const remote = byId.get(pair?.remoteCandidateId);
  const atMs = entries.reduce((latest, entry) => Math.max(latest, entry.timestamp ?? 0), 0);
  const streams = entries
    .filter((entry) => entry.type === 'inbound-rtp' || entry.type === 'outbound-rtp')
    .map((entry) => summariseStream(entry, byId, entries));
  addRates(streams, before, atMs);
  const total = (direction) => streams.filter((stream) => stream.direction === direction)
    .reduce((sum, stream) => sum + stream.bitrateBps, 0);
  return {
    atMs,
    roundTripMs: pair?.currentRoundTripTime === undefined ? null : pair.currentRoundTripTime * 1000,
    transport: local ? (local.relayProtocol ?? local.protocol ?? '') : '',
    local: addressOf(local),
    remote: addressOf(remote),
    inBps: total('in'),
    outBps: total('out'),
    streams,
  };
}

function chosenPair(entries, byId) {
  const transport = entries.find((entry) => entry.type === 'transport' && entry.selectedCandidatePairId);
  return byId.get(transport?.selectedCandidatePairId)
    ?? entries.find((entry) => entry.type === 'candidate-pair' && entry.nominated && entry.state === 'succeeded');
}

function addressOf(candidate) {
  return candidate ? `${candidate.address ?? candidate.ip ?? '?'}:${candidate.port}` : '';
}

function summariseStream(entry, byId, entries) {
  const incoming = entry.type === 'inbound-rtp';
  // What we send is measured where it arrives: loss and jitter come back in receiver reports.
  const measured = incoming ? entry : byId.get(entry.remoteId)
    ?? entries.find((other) => other.type === 'remote-inbound-rtp' && other.localId === entry.id) ?? {};
  const packets = (incoming ? entry.packetsReceived : entry.packetsSent) ?? 0;
  const lost = Math.max(0, measured.packetsLost ?? 0);
  return {
    direction: incoming ? 'in' : 'out',
    kind: entry.kind,
    mid: entry.mid ?? '',
    rid: entry.rid ?? '',
    active: entry.active ?? true,
    codec: (byId.get(entry.codecId)?.mimeType ?? '').split('/')[1] ?? '',
    bytes: (incoming ? entry.bytesReceived : entry.bytesSent) ?? 0,
    packets,
    bitrateBps: 0,
    lost,
    lossPercent: packets + lost > 0 ? (100 * lost) / (packets + lost) : 0,
    jitterMs: (measured.jitter ?? 0) * 1000,
    width: entry.frameWidth ?? 0,
    height: entry.frameHeight ?? 0,
    fps: entry.framesPerSecond ?? 0,
    frames: (incoming ? entry.framesDecoded : entry.framesEncoded) ?? 0,
    freezes: entry.freezeCount ?? 0,
    audioEnergy: entry.totalAudioEnergy ?? 0,
  };
}

/** Rates of the time since `before`; loss too, so that a bad second long ago does not stay on show. */
function addRates(streams, before, atMs) {
  const seconds = before ? (atMs - before.atMs) / 1000 : 0;
  for (const stream of streams) {
    const old = before?.streams.find((other) =>
      other.mid === stream.mid && other.rid === stream.rid && other.direction === stream.direction);
    if (!old || seconds <= 0 || stream.bytes < old.bytes) {
      continue;
    }
    stream.bitrateBps = Math.round(((stream.bytes - old.bytes) * 8) / seconds);
    const lost = Math.max(0, stream.lost - old.lost);
    const packets = stream.packets - old.packets;
    stream.lossPercent = lost + packets > 0 ? (100 * lost) / (lost + packets) : 0;
  }
}

/** Reads one client's statistics, over all its connections. */
export class StatsReader {
  #connection;
  #describe;
  #pc = null;
  #before = null;
  #last = null;

  /**
   * @param {() => RTCPeerConnection|null} connection
   * @param {(mid: string) => object} describe what a section carries, for people
   */
  constructor(connection, describe) {
    this.#connection = connection;
    this.#describe = describe;
  }

  /**
   * The present summary.
   * @returns {Promise<Summary>}
   */
  async read() {
    const pc = this.#connection();
    if (pc !== this.#pc) {
      this.#pc = pc;
      this.#before = null;
      this.#last = null;
    }
    const report = pc ? [...(await pc.getStats()).values()] : [];
    const now = summarise(report, this.#before);
    for (const stream of now.streams) {
      Object.assign(stream, this.#describe(stream.mid));
    }
    // Rates over less than half a second jump about: two readers in a row share the older start.
    if (!this.#last || now.atMs - this.#last.atMs > 500) {
      this.#before = this.#last ?? now;
      this.#last = now;
    }
    return now;
  }
}

/**
 * A bit rate for people.
 * @param {number} bps
 * @returns {string}
 */
export function shownRate(bps) {
  if (bps >= 1_000_000) {
    return `${(bps / 1_000_000).toFixed(1)} Mbit/s`;
  }
  return `${Math.round(bps / 1000)} kbit/s`;
}
