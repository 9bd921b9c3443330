// Google's Firestore emulator over REST: each test's own project, with rules, and people in it.

import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { fileURLToPath } from 'node:url';

const SCRIPT = fileURLToPath(new URL('../../../scripts/firestore-emulator', import.meta.url));

// Longest wait for a cold JVM on a busy machine.
const START_MS = 60_000;

/** The emulator: the one of FIRESTORE_EMULATOR_HOST, or one of our own. `{ host, stop() }` */
export async function startEmulator() {
  const given = process.env.FIRESTORE_EMULATOR_HOST;
  if (given) return { host: given, stop: async () => {} };
  const port = await freePort();
  const child = spawn(SCRIPT, [String(port)], { stdio: ['ignore', 'pipe', 'pipe'] });
  let said = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (data) => { said += data; });
  const host = `127.0.0.1:${port}`;
  const until = Date.now() + START_MS;
  while (!(await answers(host))) {
    if (child.exitCode !== null) throw new Error(said);
    if (Date.now() > until) { child.kill('SIGKILL'); throw new Error(`no emulator after ${START_MS} ms: ${said}`); }
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  const stop = async () => {
    child.kill('SIGKILL');
    await once(child, 'exit');
  };
  return { host, stop };
}

async function answers(host) {
  try {
    return (await fetch(`http://${host}/`)).ok;
  } catch {
    return false;
  }
}

async function freePort() {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  await once(server, 'close');
  return port;
}

/** A new project under these rules. */
export async function newProject(host, rules) {
  const id = `rules-${randomBytes(6).toString('hex')}`;
  const response = await fetch(`http://${host}/emulator/v1/projects/${id}:securityRules`, {
    method: 'PUT',
    body: JSON.stringify({ rules: { files: [{ name: 'security.rules', content: rules }] } }),
  });
  if (!response.ok) throw new Error(`the rules do not compile: ${await response.text()}`);
  const documents = `http://${host}/v1/projects/${id}/databases/(default)/documents`;
  return {
    /** Somebody who signed in; the emulator takes tokens without a signature. */
    user: (uid, claims = {}) => new Caller(documents, `Bearer ${token(id, uid, claims)}`),
    /** Somebody who did not. */
    stranger: () => new Caller(documents, null),
    /** A node: past all rules. */
    node: () => new Caller(documents, 'Bearer owner'),
  };
}

function token(project, uid, custom) {
  const now = Math.floor(Date.now() / 1000);
  const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const claims = {
    iss: `https://securetoken.google.com/${project}`, aud: project, sub: uid, user_id: uid,
    iat: now, auth_time: now, exp: now + 3600, firebase: { sign_in_provider: 'anonymous', identities: {} }, ...custom,
  };
  return `${part({ alg: 'none', typ: 'JWT' })}.${part(claims)}.`;
}

/** Somebody at the database. Each method gives the HTTP status: 200, 403 (denied), 404 (allowed, not there). */
class Caller {
  #documents;
  #headers;

  constructor(documents, authorization) {
    this.#documents = documents;
    this.#headers = authorization ? { authorization } : {};
  }

  async #call(method, path, body) {
    const response = await fetch(`${this.#documents}${path}`, {
      method, headers: this.#headers, body: body && JSON.stringify(body),
    });
    const text = await response.text();
    if (![200, 403, 404].includes(response.status)) throw new Error(`${response.status}: ${text}`);
    return response.status;
  }

  create(collection, id, fields) {
    return this.#call('POST', `/${collection}?documentId=${id}`, { fields: encodeFields(fields) });
  }

  /** Sets these fields and leaves the others; `undefined` deletes one. */
  update(collection, id, fields) {
    const mask = Object.keys(fields).map((name) => `updateMask.fieldPaths=${name}`).join('&');
    return this.#call('PATCH', `/${collection}/${id}?${mask}&currentDocument.exists=true`, { fields: encodeFields(fields) });
  }

  /** Replaces the whole document, or makes it. */
  set(collection, id, fields) {
    return this.#call('PATCH', `/${collection}/${id}`, { fields: encodeFields(fields) });
  }

  get(collection, id) {
    return this.#call('GET', `/${collection}/${id}`);
  }

  list(collection) {
    return this.#call('GET', `/${collection}`);
  }

  /** A query for documents with this field. */
  query(collection, field, value) {
    return this.#call('POST', ':runQuery', {
      structuredQuery: {
        from: [{ collectionId: collection }],
        where: { fieldFilter: { field: { fieldPath: field }, op: 'EQUAL', value: encode(value) } },
      },
    });
  }

  delete(collection, id) {
    return this.#call('DELETE', `/${collection}/${id}`);
  }
}

function encodeFields(fields) {
  const written = Object.entries(fields).filter(([, value]) => value !== undefined);
  return Object.fromEntries(written.map(([name, value]) => [name, encode(value)]));
}

function encode(value) {
  if (value === null) return { nullValue: null };
  if (Array.isArray(value)) return { arrayValue: { values: value.map(encode) } };
  if (value instanceof Date) return { timestampValue: value.toISOString() };
  switch (typeof value) {
    case 'string': return { stringValue: value };
    case 'boolean': return { booleanValue: value };
    case 'number': return { integerValue: String(value) };
    default: return { mapValue: { fields: encodeFields(value) } };
  }
}
