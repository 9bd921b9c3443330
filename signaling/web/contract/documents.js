/**
 * The form of the documents by which pages and nodes meet: descriptions in and out of text, the six
 * fields of a request, and what a server's part of a document says. Nothing here knows a database.
 */

/**
 * A description as documents hold it: standard base64, with its padding, of JSON.
 * @param {{type: string, sdp: string}} description
 * @returns {string}
 */
export function encodeDescription({ type, sdp }) {
  const bytes = new TextEncoder().encode(JSON.stringify({ type, sdp }));
  let binary = '';
  for (const byte of bytes) {
    binary += String.fromCharCode(byte);
  }
  return btoa(binary);
}

/**
 * The description that a document holds.
 * @param {string} text
 * @returns {{type: string, sdp: string}}
 * @throws {Error} a sentence, when it is none
 */
export function decodeDescription(text) {
  let description;
  try {
    const bytes = Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
    description = JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    throw new Error('The answer in the document is not base64 of JSON.');
  }
  if (typeof description?.type !== 'string' || typeof description.sdp !== 'string') {
    throw new Error('The answer in the document has no type and sdp.');
  }
  return description;
}

/**
 * A request, complete: all of its fields are written at once.
 * @param {{requestor: string, kind: string, parent: string, offer: string}} request
 */
export function requestFields({ requestor, kind, parent, offer }) {
  return { requestor, kind, parent, offer, answer: '', abort: false };
}

/**
 * What tells one refusal in a document from another; empty when there is none. A page that offers
 * again in the same document finds the refusal of before still there, until a node has written.
 * @param {Record<string, any>|null} fields
 * @returns {string}
 */
export function refusalMark(fields) {
  if (!fields?.error) {
    return '';
  }
  const { seconds = 0, nanoseconds = 0 } = fields.expire_at ?? {};
  return JSON.stringify([fields.error, fields.owner ?? '', seconds, nanoseconds]);
}

/**
 * Whether a node's sentence says that there is nothing to come back to; after any other a new offer may help.
 * @param {string} error
 * @returns {boolean}
 */
export function isOver(error) {
  return /^(?:the room was closed|this meeting is over|the broadcaster did not come back)/u.test(error);
}

/**
 * The meeting's id in what somebody pasted: the id itself, or a link that ends in `parent=ID`.
 * @param {string} text
 * @returns {string} empty when there is none
 */
export function meetingIdIn(text) {
  const trimmed = text.trim();
  const linked = /[?&]parent=([^&#\s]+)/u.exec(trimmed)?.[1];
  const id = linked ? decodeURIComponent(linked) : trimmed;
  return /^[A-Za-z0-9_-]{1,64}$/u.test(id) ? id : '';
}
