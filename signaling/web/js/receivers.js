/**
 * Which receiving sections of the connection carry which tracks: the decision alone, without WebRTC.
 *
 * @typedef {{kind: string, idle: boolean}} Slot a receiving transceiver; idle when it was agreed to be inactive
 */

/**
 * How to get from the tracks that are received to the tracks that are wanted. A slot that is
 * released now is not given to another track in the same step: the other side must first have
 * agreed that it is idle, or a frame of the old track could show up as the new one.
 * @template {Slot} S
 * @param {{id: string, kind: string}[]} wanted
 * @param {Map<string, S>} assigned track id to slot
 * @param {S[]} slots every slot there is
 * @returns {{release: string[], assign: {id: string, kind: string, slot: S|null}[]}}
 *   `slot: null` asks for a new one
 */
export function planReceivers(wanted, assigned, slots) {
  const ids = new Set(wanted.map((track) => track.id));
  const release = [...assigned.keys()].filter((id) => !ids.has(id));
  const taken = new Set(assigned.values());
  const assign = [];
  for (const { id, kind } of wanted) {
    if (assigned.has(id)) {
      continue;
    }
    const slot = slots.find((candidate) => candidate.kind === kind && candidate.idle && !taken.has(candidate)) ?? null;
    if (slot) {
      taken.add(slot);
    }
    assign.push({ id, kind, slot });
  }
  return { release, assign };
}
