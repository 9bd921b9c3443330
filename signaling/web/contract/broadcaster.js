/** The broadcaster's page: camera and microphone, sent and offered to receive, as the contract has it. */

import { ContractPage } from './page.js';

const byId = (id) => document.getElementById(id);
let media = null;

const page = new ContractPage(async () => {
  media ??= await openMedia();
  byId('picture').srcObject = media;
  return {
    request: { requestor: byId('name').value.trim(), kind: 'broadcaster', parent: '' },
    prepare: (pc) => {
      // Audio is mid 0 and video mid 1, both in both directions.
      pc.addTrack(media.getAudioTracks()[0], media);
      pc.addTrack(media.getVideoTracks()[0], media);
    },
  };
});

async function openMedia() {
  try {
    return await navigator.mediaDevices.getUserMedia({ audio: true, video: { width: 1280, height: 720 } });
  } catch (error) {
    throw new Error(`A broadcast needs a camera and a microphone: ${error.message}.`);
  }
}

document.addEventListener('contract-state', ({ detail: { state, id } }) => {
  byId('meeting').hidden = !id;
  const link = new URL('participant.html', location.href);
  // Where the database is goes along, when this page had to be told.
  link.search = location.search;
  ['start', 'name'].forEach((name) => link.searchParams.delete(name));
  link.searchParams.set('parent', id);
  byId('watch-link').href = link.href;
  if (['idle', 'ended', 'error'].includes(state) && media) {
    media.getTracks().forEach((track) => track.stop());
    media = null;
    byId('picture').srcObject = null;
  }
});

byId('copy').addEventListener('click', async () => {
  try {
    await navigator.clipboard.writeText(page.id);
    byId('copy').textContent = 'Copied';
  } catch {
    getSelection().selectAllChildren(byId('document'));
  }
});
