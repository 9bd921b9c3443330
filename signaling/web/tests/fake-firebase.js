/** As much of Firebase's SDK as our pages use, over documents in memory; the test plays the node. */

/** A database that every opened SDK shares. */
export class FakeFirebase {
  documents = new Map();
  writes = [];
  /** Set to an error to have the next write rejected with it. */
  refuseWith = null;
  /** While true, writes stay without an answer, and listeners hear only that nothing is known. */
  offline = false;
  /** While true, what changes is not told: only who begins to listen hears how things stand. */
  forgetful = false;
  /** How often the page asked to connect anew. */
  reconnects = 0;
  #listeners = new Set();
  #ids = 0;

  /** The modules, as the page loads them. */
  modules() {
    return {
      app: { initializeApp: (configuration) => ({ configuration }) },
      auth: null,
      firestore: {
        getFirestore: (app, name = '(default)') => ({ app, name }),
        connectFirestoreEmulator: (db, host, port, options) => Object.assign(db, { host, port, options }),
        collection: (_db, path) => ({ path }),
        doc: (first, collection, id) => (collection ? { path: `${collection}/${id}` } : { id: `id${this.#ids += 1}` }),
        setDoc: (ref, fields) => this.#write('set', ref.path, fields),
        disableNetwork: async () => { this.reconnects += 1; },
        enableNetwork: async () => {},
        updateDoc: (ref, fields) => this.#write('update', ref.path, fields),
        onSnapshot: (ref, _options, next, failed) => {
          const listener = { path: ref.path, next, failed };
          this.#listeners.add(listener);
          queueMicrotask(() => this.#listeners.has(listener) && this.#tell(listener));
          return () => this.#listeners.delete(listener);
        },
      },
    };
  }

  /** The documents written to, each with how and what, without those of `farewell`. */
  writesTo(path) {
    return this.writes.filter((write) => write.path === path);
  }

  /** How many listeners a document has. */
  listenersOf(path) {
    return [...this.#listeners].filter((listener) => listener.path === path).length;
  }

  /** The node writes: its fields go in, everybody who listens hears it. */
  node(path, fields) {
    this.documents.set(path, { ...this.documents.get(path), ...fields });
    this.#announce(path);
  }

  /** A document is gone. */
  remove(path) {
    this.documents.delete(path);
    this.#announce(path);
  }

  /** Ends the listeners of a document with an error. */
  fail(path, code) {
    for (const listener of [...this.#listeners].filter((other) => other.path === path)) {
      this.#listeners.delete(listener);
      listener.failed({ code, message: code });
    }
  }

  /** The database can be reached again. */
  goOnline() {
    this.offline = false;
    this.#listeners.forEach((listener) => this.#tell(listener));
  }

  #announce(path) {
    if (this.forgetful) {
      return;
    }
    [...this.#listeners].filter((listener) => listener.path === path).forEach((listener) => this.#tell(listener));
  }

  #tell({ path, next }) {
    const fields = this.offline ? undefined : this.documents.get(path);
    next({ exists: () => fields !== undefined, data: () => structuredClone(fields), metadata: { fromCache: this.offline } });
  }

  async #write(how, path, fields) {
    if (this.offline) {
      await new Promise(() => {});
    }
    if (this.refuseWith) {
      const refusal = this.refuseWith;
      this.refuseWith = null;
      throw refusal;
    }
    if (how === 'update' && !this.documents.has(path)) {
      throw Object.assign(new Error('no such document'), { code: 'not-found' });
    }
    this.writes.push({ how, path, fields, at: Date.now() });
    this.documents.set(path, how === 'set' ? { ...fields } : { ...this.documents.get(path), ...fields });
    this.#announce(path);
  }
}

/** An error as the SDK throws it. */
export function firebaseError(code) {
  return Object.assign(new Error(code), { code });
}
