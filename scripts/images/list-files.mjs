// Runs inside an image, from standard input: a line of JSON for everything on its root file system. Plain JavaScript,
// since any image with Node must be able to run it.
import { createHash } from 'node:crypto';
import { lstatSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';

/** What the kernel or the container engine puts there. */
const FOREIGN = /^\/(proc|sys|dev|\.dockerenv|etc\/(hosts|hostname|resolv\.conf|mtab))$/;

function list(folder) {
  for (const name of readdirSync(folder).sort()) {
    const path = `${folder === '/' ? '' : folder}/${name}`;
    if (FOREIGN.test(path)) continue;
    const stat = lstatSync(path);
    const { mode, uid, gid, size, mtimeMs } = stat;
    const entry = { path, mode: mode.toString(8), owner: `${uid}:${gid}` };
    if (stat.isFile()) {
      const content = readFileSync(path);
      const sha256 = createHash('sha256').update(content).digest('hex');
      Object.assign(entry, { size, sha256, mtimeMs, elf: content.toString('latin1', 0, 4) === '\x7fELF' });
    }
    if (stat.isSymbolicLink()) entry.target = readlinkSync(path);
    process.stdout.write(`${JSON.stringify(entry)}\n`);
    if (stat.isDirectory()) list(path);
  }
}

list('/');
