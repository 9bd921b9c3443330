/**
 * A Firestore database as pages need it: where its configuration comes from, the real Firebase SDK
 * behind a few functions, and a last word when the tab closes.
 *
 * @typedef {{
 *   projectId: string, apiKey?: string, databaseId?: string, collection?: string, sdk?: string,
 *   emulatorHost?: string, auth?: "anonymous", iceServers?: RTCIceServer[],
 * }} Configuration
 */

/** Google's own server of the SDK, with the version that these pages are tested with. */
export const SDK = 'https://www.gstatic.com/firebasejs/12.19.0';
/** Where requests are, when nothing else is configured. */
export const COLLECTION = 'broadcast_requests';

/** What an address may set. */
const PARAMETERS = ['projectId', 'apiKey', 'authDomain', 'appId', 'databaseId', 'collection', 'emulatorHost', 'auth', 'sdk'];
/** Who else may know: a Millrace node, and Firebase Hosting. */
const WELL_KNOWN = ['/v1/firebase.json', '/__/firebase/init.json'];

/**
 * The configuration that the node wrote into the page.
 * @param {Document} page
 * @returns {Configuration|null}
 */
export function embeddedConfiguration(page) {
  const block = page.getElementById('firebase');
  return block ? JSON.parse(block.textContent) : null;
}

/**
 * The configuration in an address; code is taken from this page's own origin or from Google only.
 * @param {{href: string, search: string, origin: string}} address
 * @returns {Configuration|null}
 */
export function addressConfiguration(address) {
  const query = new URLSearchParams(address.search);
  const found = PARAMETERS.filter((name) => query.get(name)).map((name) => [name, query.get(name)]);
  const configuration = Object.fromEntries(found);
  if (!configuration.projectId) {
    return null;
  }
  if (configuration.sdk) {
    const sdk = new URL(configuration.sdk, address.href);
    if (sdk.origin !== address.origin && !sdk.href.startsWith('https://www.gstatic.com/firebasejs/')) {
      throw new Error('The SDK may come from this page\'s own origin or from www.gstatic.com/firebasejs only.');
    }
  }
  return configuration;
}

/**
 * The configuration, from wherever this page is served.
 * @returns {Promise<Configuration>}
 */
export async function findConfiguration() {
  const near = embeddedConfiguration(document) ?? addressConfiguration(location);
  if (near) {
    return near;
  }
  for (const path of WELL_KNOWN) {
    const reply = await fetch(path).catch(() => null);
    if (reply?.ok && reply.headers.get('content-type')?.includes('json')) {
      return reply.json();
    }
  }
  throw new Error('There is no Firebase configuration here: start the node with --firebase-config, or add ?projectId=… to the address.');
}

/** The SDK's modules; the import map in a page leads their own imports to the same copy. */
async function loadSdk({ sdk = SDK, auth, emulatorHost }) {
  const module = (name) => import(new URL(`${sdk}/firebase-${name}.js`, location.href).href);
  try {
    const [app, firestore] = await Promise.all([module('app'), module('firestore')]);
    // An emulator takes any token, so there is nothing to sign in to.
    return { app, firestore, auth: auth && !emulatorHost ? await module('auth') : null };
  } catch (error) {
    throw new Error(`The Firebase SDK could not be loaded from ${sdk}: ${error.message}`);
  }
}

/** An unsigned token, which the emulator believes; `uid` is then who rules say that it is. */
function emulatorToken(projectId, uid) {
  const part = (value) => btoa(JSON.stringify(value)).replace(/[=]+$/u, '').replace(/\+/gu, '-').replace(/\//gu, '_');
  const now = Math.floor(Date.now() / 1000);
  const claims = {
    iss: `https://securetoken.google.com/${projectId}`,
    aud: projectId,
    sub: uid,
    user_id: uid,
    iat: now,
    auth_time: now,
    exp: now + 24 * 3600,
    firebase: { sign_in_provider: 'anonymous', identities: {} },
  };
  return `${part({ alg: 'none', type: 'JWT' })}.${part(claims)}.`;
}

/** An open database, as one person uses it. */
export class Database {
  /** The signed-in person, or `''`. */
  uid = '';
  #configuration;
  #firestore;
  #db;
  #token = '';

  /**
   * Opens a database and signs in if the configuration asks for it.
   * @param {Configuration} configuration
   * @param {(configuration: Configuration) => Promise<any>} [load] the SDK's modules
   * @returns {Promise<Database>}
   */
  static async open(configuration, load = loadSdk) {
    const sdk = await load(configuration);
    const database = new Database(configuration, sdk.firestore);
    const app = sdk.app.initializeApp(configuration);
    database.#db = configuration.databaseId
      ? sdk.firestore.getFirestore(app, configuration.databaseId) : sdk.firestore.getFirestore(app);
    if (configuration.emulatorHost) {
      database.#useEmulator(configuration);
    } else if (sdk.auth) {
      await database.#signIn(sdk.auth, app);
    }
    return database;
  }

  constructor(configuration, firestore) {
    this.#configuration = configuration;
    this.#firestore = firestore;
  }

  /** The collection of requests. */
  get collection() {
    return this.#configuration.collection ?? COLLECTION;
  }

  /** STUN and TURN servers. */
  get iceServers() {
    return this.#configuration.iceServers ?? [];
  }

  /** An id for a new request. */
  newId() {
    const { collection, doc } = this.#firestore;
    return doc(collection(this.#db, this.collection)).id;
  }

  /**
   * Writes a request as a whole.
   * @param {string} id
   * @param {Record<string, any>} fields
   * @returns {Promise<void>} done when the database has it
   */
  set(id, fields) {
    return this.#firestore.setDoc(this.#request(id), fields);
  }

  /**
   * Writes some fields of a request that is there.
   * @param {string} id
   * @param {Record<string, any>} fields
   * @returns {Promise<void>}
   */
  update(id, fields) {
    return this.#firestore.updateDoc(this.#request(id), fields);
  }

  /**
   * Listens to a document: its fields (`null` while there is none) and whether the database itself
   * said so, now and at each change.
   * @param {string} collection
   * @param {string} id
   * @param {(fields: Record<string, any>|null, sure: boolean) => void} onFields
   * @param {(error: {code: string, message: string}) => void} onError nothing follows it
   * @returns {() => void} stops it
   */
  watch(collection, id, onFields, onError) {
    const { doc, onSnapshot } = this.#firestore;
    const options = { includeMetadataChanges: true };
    return onSnapshot(doc(this.#db, collection, id), options, (snapshot) => {
      onFields(snapshot.exists() ? snapshot.data() : null, !snapshot.metadata.fromCache);
    }, onError);
  }

  /** Connects anew at once: by itself the SDK lets up to a minute pass between two tries. */
  async reconnect() {
    await this.#firestore.disableNetwork(this.#db);
    await this.#firestore.enableNetwork(this.#db);
  }

  /**
   * Hangs up a request from a tab that is closing: the one kind of request that outlives it.
   * @param {string} id
   */
  farewell(id) {
    const { projectId, databaseId = '(default)', apiKey, emulatorHost } = this.#configuration;
    const server = emulatorHost ? `http://${emulatorHost}` : 'https://firestore.googleapis.com';
    const document = `projects/${projectId}/databases/${databaseId}/documents/${this.collection}/${id}`;
    const query = new URLSearchParams({ 'updateMask.fieldPaths': 'abort', 'currentDocument.exists': 'true', ...(apiKey ? { key: apiKey } : {}) });
    fetch(`${server}/v1/${document}?${query}`, {
      method: 'PATCH',
      keepalive: true,
      headers: { 'content-type': 'application/json', ...(this.#token ? { authorization: `Bearer ${this.#token}` } : {}) },
      body: JSON.stringify({ fields: { abort: { booleanValue: true } } }),
    }).catch(() => {});
  }

  #request(id) {
    return this.#firestore.doc(this.#db, this.collection, id);
  }

  #useEmulator({ emulatorHost, projectId, auth }) {
    const { hostname, port } = new URL(`http://${emulatorHost}`);
    let options = {};
    if (auth) {
      this.uid = crypto.randomUUID();
      this.#token = emulatorToken(projectId, this.uid);
      options = { mockUserToken: this.#token };
    }
    this.#firestore.connectFirestoreEmulator(this.#db, hostname, Number(port || 80), options);
  }

  async #signIn({ initializeAuth, indexedDBLocalPersistence, signInAnonymously, onIdTokenChanged }, app) {
    // Without `getAuth`, which would load a frame from Google for ways of signing in that are not used.
    const auth = initializeAuth(app, { persistence: indexedDBLocalPersistence });
    try {
      const { user } = await signInAnonymously(auth);
      this.uid = user.uid;
    } catch (error) {
      throw new Error(`Signing in to the database failed: ${error.message}`);
    }
    onIdTokenChanged(auth, async (user) => {
      this.#token = user ? await user.getIdToken() : '';
    });
  }
}
