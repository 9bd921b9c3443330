/** The participant's page: paste the meeting's id, watch. */

import { ContractPage } from './page.js';
import { meetingIdIn } from './documents.js';

const byId = (id) => document.getElementById(id);
const query = new URLSearchParams(location.search);
const picture = byId('picture');
byId('parent').value = query.get('parent') ?? '';
byId('sound').checked = query.get('audio') !== '0';

new ContractPage(async () => {
  const parent = meetingIdIn(byId('parent').value);
  if (!parent) {
    throw new Error('Paste the meeting\'s id: the broadcaster\'s page shows it.');
  }
  const sound = byId('sound').checked;
  return {
    request: { requestor: byId('name').value.trim(), kind: 'participant', parent },
    prepare: (pc) => {
      pc.addTransceiver('video', { direction: 'recvonly' });
      if (sound) {
        pc.addTransceiver('audio', { direction: 'recvonly' });
      }
      pc.ontrack = ({ streams: [stream] }) => show(stream);
    },
  };
});

async function show(stream) {
  picture.srcObject = stream;
  picture.muted = false;
  try {
    await picture.play();
  } catch (error) {
    if (error.name === 'NotAllowedError') {
      // A page that nobody has clicked yet may play only in silence.
      picture.muted = true;
      byId('hear').hidden = false;
      picture.play().catch(() => {});
    }
  }
}

byId('hear').addEventListener('click', () => {
  picture.muted = false;
  byId('hear').hidden = true;
});

document.addEventListener('contract-state', ({ detail: { state } }) => {
  if (['ended', 'lost', 'refused', 'error'].includes(state)) {
    picture.srcObject = null;
    byId('hear').hidden = true;
  }
});
