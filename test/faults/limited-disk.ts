import { DatabaseSync } from 'node:sqlite';

/**
 * Loaded into a consumer with `--import`: a disk that is full at so many pages of 4 KiB. The bound is one of the
 * connection, so it cannot be set from outside; what fills the file up to it, and makes room again, can.
 */
const pageLimit = Number(process.env['CAMPAIGN_PAGE_LIMIT']);

const limited = new WeakSet<DatabaseSync>();
const prepare = DatabaseSync.prototype.prepare;
DatabaseSync.prototype.prepare = function (this: DatabaseSync, ...given: Parameters<typeof prepare>) {
  if (!limited.has(this)) {
    limited.add(this);
    this.exec(`PRAGMA max_page_count = ${pageLimit}`);
  }
  return prepare.apply(this, given);
};
