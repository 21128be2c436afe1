/** A few tables of this browser's own database (IndexedDB), as promises. */

const TABLES = ["journal", "drafts", "images", "files", "annotations", "classes"] as const;
export type Table = (typeof TABLES)[number];

export class Database {
  private constructor(private readonly inner: IDBDatabase) {}

  static open(name: string): Promise<Database> {
    return new Promise((resolve, reject) => {
      const request = indexedDB.open(name, 1);
      request.onupgradeneeded = () => {
        for (const table of TABLES) request.result.createObjectStore(table);
      };
      request.onsuccess = () => resolve(new Database(request.result));
      request.onerror = () => reject(request.error);
    });
  }

  get<T>(table: Table, key: string): Promise<T | undefined> {
    return this.run<T | undefined>(table, "readonly", (store) => store.get(key));
  }

  async entries<T>(table: Table): Promise<[string, T][]> {
    const [keys, values] = await Promise.all([
      this.run<IDBValidKey[]>(table, "readonly", (store) => store.getAllKeys()),
      this.run<T[]>(table, "readonly", (store) => store.getAll()),
    ]);
    return keys.map((key, index) => [String(key), values[index]!]);
  }

  put(table: Table, key: string, value: unknown): Promise<unknown> {
    return this.run(table, "readwrite", (store) => store.put(value, key));
  }

  delete(table: Table, key: string): Promise<unknown> {
    return this.run(table, "readwrite", (store) => store.delete(key));
  }

  private run<T>(table: Table, mode: IDBTransactionMode, ask: (store: IDBObjectStore) => IDBRequest): Promise<T> {
    return new Promise((resolve, reject) => {
      const transaction = this.inner.transaction(table, mode);
      const request = ask(transaction.objectStore(table));
      transaction.oncomplete = () => resolve(request.result as T);
      transaction.onabort = () => reject(transaction.error ?? request.error);
    });
  }
}
