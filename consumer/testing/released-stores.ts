/**
 * What each release makes of the store, recorded when it is released and never changed: its schema, how it stores an
 * order and how it reads one. Old pods do exactly this on the newest schema while a deployment is under way, and after
 * a rollback. A migration that these do not survive must wait for a later release (expand, then contract).
 */
export type ReleasedStore = {
  release: string;
  /** Parameters: order_id, customer_id, created_at_ms, content_hash, trace_id, data. */
  sqlite: { schema: string; store: string; read: string };
  /** Parameter: a JSON array of rows. */
  postgres: { schema: string; store: string; read: string };
};

export const RELEASED_STORES: ReleasedStore[] = [
  {
    release: '0.1.0',
    sqlite: {
      schema: `
        CREATE TABLE schema_migrations (version integer PRIMARY KEY);
        CREATE TABLE orders (
          order_id TEXT PRIMARY KEY NOT NULL,
          customer_id TEXT NOT NULL,
          created_at_ms INTEGER NOT NULL,
          content_hash TEXT NOT NULL,
          trace_id TEXT NOT NULL,
          data TEXT NOT NULL,
          stored_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
        ) STRICT;
        CREATE INDEX orders_by_customer ON orders (customer_id, created_at_ms DESC, order_id DESC);
        CREATE TABLE write_probe (filler BLOB NOT NULL) STRICT;
        INSERT INTO schema_migrations (version) VALUES (1);`,
      store: `
        INSERT INTO orders (order_id, customer_id, created_at_ms, content_hash, trace_id, data)
        VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (order_id) DO NOTHING`,
      read: 'SELECT data, content_hash, trace_id, stored_at FROM orders WHERE order_id IN (SELECT value FROM json_each(?))',
    },
    postgres: {
      schema: `
        CREATE TABLE schema_migrations (version integer PRIMARY KEY);
        CREATE TABLE orders (
          order_id uuid PRIMARY KEY,
          customer_id text NOT NULL,
          created_at_ms bigint NOT NULL,
          content_hash text NOT NULL,
          trace_id text NOT NULL,
          data json NOT NULL,
          stored_at timestamptz NOT NULL DEFAULT now()
        );
        CREATE INDEX orders_by_customer ON orders (customer_id, created_at_ms DESC, order_id DESC);
        INSERT INTO schema_migrations (version) VALUES (1);`,
      store: `
        INSERT INTO orders (order_id, customer_id, created_at_ms, content_hash, trace_id, data)
        SELECT order_id, customer_id, created_at_ms, content_hash, trace_id, data::json
        FROM json_to_recordset($1) AS given (
          order_id uuid, customer_id text, created_at_ms bigint, content_hash text, trace_id text, data text)
        ORDER BY order_id
        ON CONFLICT (order_id) DO NOTHING
        RETURNING order_id`,
      read: 'SELECT data::text, content_hash, trace_id, stored_at FROM orders WHERE order_id = ANY ($1::uuid[])',
    },
  },
];
