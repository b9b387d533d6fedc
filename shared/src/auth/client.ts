/**
 * What a client may do. `orders:read` is for the client's own orders, `orders:read:all` for everybody's; `operations` is
 * to look at how a service does, `operations:write` to act on it.
 */
export const SCOPES = [
  'orders:write',
  'orders:read',
  'orders:read:all',
  'operations',
  'operations:write',
] as const;
export type Scope = (typeof SCOPES)[number];

/** Who sends a request. Without an id nobody was asked who they are. */
export type Client = { readonly id: string | undefined; readonly scopes: ReadonlySet<Scope> };

/** Scopes that include another: who may see everybody's orders may see its own. */
const WIDER: Partial<Record<Scope, Scope>> = { 'orders:read': 'orders:read:all' };

/** The widest scope with which one may do what needs this one. */
export const widest = (scope: Scope): Scope => WIDER[scope] ?? scope;

/** Whether a client may do that. */
export const mayDo = ({ scopes }: Client, scope: Scope): boolean =>
  scopes.has(scope) || scopes.has(widest(scope));

/** Who may do everything, where clients are not asked who they are. */
export const ANYONE: Client = { id: undefined, scopes: new Set(SCOPES) };

export const isScope = (text: string): text is Scope => (SCOPES as readonly string[]).includes(text);

/** As it stands in key files, tokens, logs and with each order. */
export const CLIENT_ID = /^[A-Za-z0-9][\w.@:|-]{0,127}$/;
